"""The bundle that every contender runs: what `runc spec` writes, without a terminal, around a static busybox."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = ("true", "sleep", "sh")
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
CGROUP_PARENT = "pyruntime-bench"


def process(arguments: Sequence[str]) -> dict[str, Any]:
    """The `process` object, for config.json and for an exec."""
    return {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(arguments),
        "env": ENVIRONMENT,
        "cwd": "/",
        "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted", "ambient")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mount(destination: str, type_: str, source: str, *options: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": type_, "source": source}
    return {**mount, "options": list(options)} if options else mount


def default_config(arguments: Sequence[str], cgroup: str, unified: bool) -> dict[str, Any]:
    """The configuration; `unified` says that the host has only cgroup v2, where `runc spec` adds a namespace."""
    namespaces = ["pid", "network", "ipc", "uts", "mount"] + (["cgroup"] if unified else [])
    quiet = ("nosuid", "noexec", "nodev")
    return {
        "ociVersion": "1.0.2-dev",
        "process": process(arguments),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                *("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance"),
                *("ptmxmode=0666", "mode=0620", "gid=5"),
            ),
            _mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
            _mount("/sys", "sysfs", "sysfs", *quiet, "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", *quiet, "relatime", "ro"),
        ],
        "linux": {
            "cgroupsPath": f"/{CGROUP_PARENT}/{cgroup}",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in namespaces],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def make_rootfs(directory: Path) -> Path:
    """A root file system of one program under several names."""
    rootfs = directory / "rootfs"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, rootfs / "bin" / "busybox")
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    return rootfs


def make_bundle(directory: Path, name: str, arguments: Sequence[str], unified: bool, busybox: Path) -> Path:
    """A bundle with a cgroup of its own; its busybox is a link to the one file, as image layers are shared."""
    bundle = directory / name
    bundle.mkdir()
    rootfs = make_rootfs(bundle)
    (rootfs / "bin" / "busybox").unlink()
    os.link(busybox, rootfs / "bin" / "busybox")
    config = default_config(arguments, name, unified)
    (bundle / "config.json").write_text(json.dumps(config, indent=2))
    return bundle
