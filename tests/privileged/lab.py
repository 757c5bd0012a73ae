"""Real containers, that leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyruntime import NativeRuntime, ProcessExitState, StdioOptions
from pyruntime.cgroups import cgroups_of
from pyruntime.host import read_host
from pyruntime.runtimes.filters import DIRECTORY as FILTERS
from pyruntime.testing.bundles import default_config, make_bundle, make_rootfs
from pyruntime.testing.snapshot import HostSnapshot

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
# of a user namespace
MAPS = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}]}


def namespaces(*types: str, **paths: str) -> list[dict[str, str]]:
    """Members of `linux.namespaces`: new ones, and those to join by path."""
    return [{"type": kind} for kind in types] + [{"type": kind, "path": path} for kind, path in paths.items()]


def with_mounts(*mounts: Mapping[str, Any]) -> list[Any]:
    """The default mounts and these."""
    return [*default_config()["mounts"], *mounts]


def bind(source: Path, *options: str, to: str = "/tmp") -> dict[str, Any]:
    """A bind mount."""
    return {"destination": to, "type": "bind", "source": str(source), "options": list(options)}


def capabilities(*names: str) -> dict[str, Any]:
    """The member of `process` that gives these, by whatever way a program is executed."""
    return {"capabilities": {kind: list(names) for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")}}


def is_unified() -> bool:
    """Whether this host has cgroup v2 alone."""
    return read_host().is_unified


def cgroup_file(controller: str, v1: str, v2: str, id: str = "p1") -> Path:
    """A file of a container's cgroup: `v2` on a host with cgroup v2 alone, else `v1` in the controller's hierarchy."""
    host = read_host()
    for cgroup in cgroups_of(host, f"/pyruntime/{id}"):
        if host.is_unified or controller in cgroup.controllers:
            return Path(cgroup.path, v2 if host.is_unified else v1)
    raise AssertionError(f"no hierarchy has the controller {controller}")


class Lab:
    """A runtime in a directory of its own, and containers that are deleted at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "state"
        self.runtime = NativeRuntime(str(self.root))
        self.rootfs = make_rootfs(directory / "rootfs")
        # applets that only these tests need
        for name in ("awk", "cut", "dd", "df", "domainname", "mknod", "nproc", "sort", "tail", "tr", "xargs"):
            (self.rootfs / "bin" / name).symlink_to("busybox")
        self._bundles = 0

    def bundle(self, script: str | list[str], **changes: Any) -> str:
        self._bundles += 1
        args = ["/bin/sh", "-c", script] if isinstance(script, str) else script
        return str(make_bundle(self.directory / f"bundle{self._bundles}", args, rootfs=self.rootfs, **changes))

    def create(self, script: str | list[str], id: str = "p1", stdio: StdioOptions | None = None, **changes: Any) -> int:
        return self.runtime.create_container(id, self.bundle(script, **changes), stdio or StdioOptions(create_out=True))

    def run(self, script: str | list[str], id: str = "p1", stdio: StdioOptions | None = None, **changes: Any) -> str:
        """Everything that the container's program wrote to its standard output; the container is gone afterwards."""
        return self.run_state(script, id, stdio, **changes)[0]

    def run_state(self, script: str | list[str], id: str = "p1", stdio: StdioOptions | None = None,
                  **changes: Any) -> tuple[str, ProcessExitState]:
        pid = self.create(script, id, stdio, **changes)
        self.runtime.start_container(id)
        text = self.read(id, pid)
        state = self.runtime.wait_on_container(id)
        self.runtime.delete_container(id)
        return text, state

    def sleeper(self, id: str = "p1", **changes: Any) -> int:
        pid = self.create(["/bin/sleep", "1000"], id, StdioOptions(), **changes)
        self.runtime.start_container(id)
        return pid

    def exec(self, script: str | list[str], id: str = "p1", stdio: StdioOptions | None = None, **process: Any) -> str:
        """What a further process wrote; it is gone afterwards."""
        args = ["/bin/sh", "-c", script] if isinstance(script, str) else script
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], **process}
        pid = self.runtime.exec_process(id, process, stdio or StdioOptions(create_out=True))
        text = self.read(id, pid)
        self.runtime.wait_on_process(id, pid)
        self.runtime.delete_process(id, pid)
        return text

    def read(self, id: str, pid: int) -> str:
        """Everything until the end of the output."""
        out = self.runtime.get_stdio_pipes(id, pid).out
        data = b""
        while out is not None and (chunk := _read(out.fileno())):
            data += chunk
        return data.decode()

    def delete_all(self) -> None:
        for state in self.runtime.list_container_states():
            self.runtime.delete_container(state.id, force=True)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: a terminal whose other side is closed
        return b""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Asserts that descriptors, children, mounts, cgroups and state directories are as before.

    One at a time on a host: the default cgroups have the names of the containers, and those are always the same.
    """
    lock = os.open("/sys/fs/cgroup", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _locked_lab(tmp_path)
    finally:
        os.close(lock)


def _locked_lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.run(["true"])  # the init's memfd stays
    before = HostSnapshot.take(made.root)
    handler = signal.getsignal(signal.SIGCHLD)
    yield made
    signal.signal(signal.SIGCHLD, handler)
    made.delete_all()
    for kept in (FILTERS, ".plans"):
        shutil.rmtree(made.root / kept, ignore_errors=True)
    assert list(made.root.iterdir()) == []
    # others use this machine: only what is ours counts
    differences = [line for line in HostSnapshot.take(made.root).differences(before)
                   if " cgroups: " not in line or "/pyruntime/p" in line]
    assert differences == [], differences  # told here, because pytest does not rewrite this module
    shutil.rmtree(made.rootfs, ignore_errors=True)  # a copy for each test is too much for a machine with its files in memory


@pytest.fixture
def reachable(lab: Lab) -> Lab:
    """Pytest's directories are 0700: an id that is mapped elsewhere has to pass."""
    path = lab.directory
    for directory in (path, *path.parents[:3]):
        if directory != Path("/tmp"):
            directory.chmod(0o755)
    return lab


@pytest.fixture
def volume(lab: Lab) -> Iterator[Path]:
    """A directory of the host that is a shared mount, with a second mount `sub` in it."""
    path = lab.directory / "volume"
    (path / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "volume", str(path)], check=True)
    subprocess.run(["mount", "--make-shared", str(path)], check=True)
    for name in ("sub", "late", "back"):
        (path / name).mkdir()
    (path / "file").write_text("text\n")
    subprocess.run(["mount", "-t", "tmpfs", "sub", str(path / "sub")], check=True)
    (path / "sub" / "inner").write_text("inner\n")
    yield path
    lab.delete_all()
    subprocess.run(["umount", "-R", str(path)], check=True)
