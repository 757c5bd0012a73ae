"""Where tests run: the name of the place, and what of a row's needs its kernel and this process have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pyruntime.host import read_host

# in the order of the document
PLACES = {"cgroup-v1": "cgroup v1 (hybrid), on the host", "cgroup-v2": "cgroup v2 alone, in a virtual machine",
          "systemd": "cgroup v2 under systemd, in a virtual machine", "selinux": "cgroup v2 and SELinux, in a virtual machine"}
CAP_SYS_RESOURCE = 24


def place() -> str:
    """Which of PLACES this is."""
    if not read_host().is_unified:
        return "cgroup-v1"
    if os.path.isdir("/sys/fs/selinux"):
        return "selinux"
    return "systemd" if os.path.exists("/run/systemd/system") and Path("/proc/1/comm").read_text() == "systemd\n" else "cgroup-v2"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def abilities() -> dict[str, bool]:
    """By the names that rows.toml and the document use."""
    host = read_host()
    controllers = {name for hierarchy in host.hierarchies for name in
                   (_read(f"{hierarchy.mount_point}/cgroup.controllers").split() if hierarchy.is_v2 else hierarchy.controllers)}
    # and those that a test can mount
    controllers |= {name for name, _, _, is_enabled in map(str.split, _read("/proc/cgroups").splitlines()[1:]) if is_enabled == "1"}
    filesystems = set(_read("/proc/filesystems").split())
    return {
        "AppArmor": _read("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        "SELinux": "selinuxfs" in filesystems,
        "resctrl": "resctrl" in filesystems,
        "time namespaces": os.path.exists("/proc/self/ns/time"),
        "user namespaces": os.path.exists("/proc/self/ns/user"),
        "NUMA": os.path.exists("/sys/devices/system/node/online"),
        "CAP_SYS_RESOURCE": bool(host.held_capabilities >> CAP_SYS_RESOURCE & 1),
        "CRIU": shutil.which("criu") is not None,
        "RDMA device": os.path.isdir("/sys/class/infiniband") and bool(os.listdir("/sys/class/infiniband")),
    } | {f"{name} controller": bool(controllers & {name, also}) for name, also in (
        ("cpu", ""), ("cpuset", ""), ("memory", ""), ("pids", ""), ("io", "blkio"), ("hugetlb", ""), ("rdma", ""), ("net_cls", ""),
        ("net_prio", ""))}
