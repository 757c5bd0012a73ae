"""Bundles for tests: a root file system of nothing but a static busybox, and a the default config.json."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyruntime.spec import default_config as spec

BUSYBOX_PATHS = ("/bin/busybox", "/usr/bin/busybox")
APPLETS = ("cat", "chmod", "echo", "env", "false", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mount",
           "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "touch", "true", "tty", "umount", "wc")


def default_config() -> dict[str, Any]:
    """What `pyruntime spec` writes, without a terminal, and of a version that crun 1.8 takes too; a copy, to change."""
    config = spec.default_config()
    config["ociVersion"] = "1.0.2"
    config["process"]["terminal"] = False
    config["hostname"] = "contract"
    return config


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
