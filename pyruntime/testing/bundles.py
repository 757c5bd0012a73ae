"""Bundles for tests: a root file system of nothing but a static busybox, and a config.json as `runc spec` writes it."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BUSYBOX_PATHS = ("/bin/busybox", "/usr/bin/busybox")
APPLETS = ("cat", "chmod", "echo", "env", "false", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mount",
           "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "touch", "true", "tty", "umount", "wc")

# no ambient ones as `runc spec` has them: they are not inheritable and cannot be granted
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_DEFAULT_CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {name: _CAPABILITIES for name in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "contract",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def default_config() -> dict[str, Any]:
    """A copy, to change."""
    return copy.deepcopy(_DEFAULT_CONFIG)


def without_pid_namespace() -> dict[str, Any]:
    """Changes of `linux` for a container whose processes are in the pid namespace of the runtime."""
    namespaces = default_config()["linux"]["namespaces"]
    return {"namespaces": [namespace for namespace in namespaces if namespace["type"] != "pid"]}


def find_busybox() -> str:
    """The path of a static busybox. Raises FileNotFoundError that says what to install."""
    for path in BUSYBOX_PATHS:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                # a dynamic program names its loader in its first page
                if b"/lib64/ld-" not in (head := file.read(4096)) and b"/lib/ld-" not in head:
                    return path
    raise FileNotFoundError(f"no static busybox at {' or '.join(BUSYBOX_PATHS)}: install Debian's busybox-static")


def make_rootfs(directory: str | os.PathLike[str]) -> Path:
    """A root file system: /bin with busybox and its names, and the empty directories that mounts need."""
    rootfs = Path(directory)
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(find_busybox(), rootfs / "bin" / "busybox")
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc" / "not-executable").write_text("not a program\n")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    return rootfs


def make_bundle(directory: str | os.PathLike[str], args: Sequence[str], *,
                rootfs: str | os.PathLike[str] | None = None, **changes: Any) -> Path:
    """A bundle that runs `args`; returns its directory.

    rootfs    one to share, from `make_rootfs`; by default a new one in the bundle
    changes   members of config.json; an object is merged into the default one, member by member, anything else takes
              its place: `make_bundle(d, ["sh"], process={"terminal": True}, hostname="h")`. None removes a member.
    """
    bundle = Path(directory)
    bundle.mkdir(parents=True, exist_ok=True)
    config = default_config()
    config["process"]["args"] = list(args)
    if rootfs is None:
        make_rootfs(bundle / "rootfs")
    else:
        config["root"]["path"] = os.fspath(rootfs)
    merge(config, changes)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def merge(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merge `changes` into the members of `config` and into their members."""
    for name, value in changes.items():
        if value is None:
            config.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config[name] = value
