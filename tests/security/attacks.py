"""Attacks are really tried; after each the host is as it was."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.testing.bundles import make_bundle, make_rootfs
from pyruntime.testing.snapshot import HostSnapshot

KERNEL_SETTINGS = ("kernel/core_pattern", "kernel/hostname", "kernel/domainname", "kernel/modprobe", "kernel/sysrq",
                   "kernel/shmmax", "vm/overcommit_memory", "net/ipv4/ip_forward", "fs/suid_dumpable")
# another run of the tests may have this pid, in a pid namespace of its own
ID = f"attack-{os.getpid()}-{os.urandom(4).hex()}"
HOST_PATHS = ("/", "/dev", "/dev/null", "/dev/console", "/dev/ptmx", "/dev/pts", "/proc", "/sys", "/etc", "/tmp")


def tree_hash(top: Path) -> str:
    """Names, types, modes, owners, contents and link targets of everything below."""
    digest = hashlib.sha256()
    for directory, names, files in os.walk(top):
        for name in sorted((*names, *files, ".")):
            path = os.path.join(directory, name)
            st = os.lstat(path)
            digest.update(repr((path, st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_ino)).encode())
            if stat.S_ISLNK(st.st_mode):
                digest.update(os.readlink(path).encode())
            elif stat.S_ISREG(st.st_mode):
                digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def host_facts(canary: Path) -> dict[str, object]:
    """What no container may change."""
    facts: dict[str, object] = {name: Path("/proc/sys", name).read_text() for name in KERNEL_SETTINGS
                                if Path("/proc/sys", name).exists()}
    facts["canary"] = tree_hash(canary)
    facts["mountinfo"] = Path("/proc/self/mountinfo").read_text()
    for path in HOST_PATHS:
        st = os.lstat(path)
        facts[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_ino)
    return facts


class Attack:
    """A runtime, a host directory that must not change, and bundles."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.canary = directory / "canary"
        (self.canary / "pts").mkdir(parents=True)
        (self.canary / "file").write_text("root:x:0:0:the host's:/of-the-host:/bin/sh\n")
        (self.canary / "null").write_text("the host's null\n")
        (self.canary / "core_pattern").write_text("core\n")
        self.root = directory / "state"
        self.runtime = NativeRuntime(str(self.root))
        self.rootfs = make_rootfs(directory / "rootfs")
        self.changes: dict[str, Any] = {}  # of each bundle
        self._count = 0

    def bundle(self, args: list[str], **changes: Any) -> str:
        """One that uses `rootfs`."""
        self._count += 1
        return str(make_bundle(self.directory / f"bundle{self._count}", args, rootfs=self.rootfs, **self.changes, **changes))

    def replace(self, name: str, target: str | Path) -> None:
        """A link in the rootfs in the place of whatever is there."""
        path = self.rootfs / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def run(self, bundle: str, id: str = ID) -> tuple[int, str]:
        """Create, start, wait, delete: exit code and everything written. Raises what create and start raise."""
        pid = self.runtime.create_container(id, bundle, StdioOptions(create_out=True))
        pipes = self.runtime.get_stdio_pipes(id, pid)
        try:
            self.runtime.start_container(id)
            text = b""
            if pipes.out is not None:
                while chunk := _read(pipes.out.fileno()):
                    text += chunk
            return self.runtime.wait_on_container(id).exit_code, text.decode(errors="replace")
        finally:
            if self.runtime.container_exists(id):
                self.runtime.delete_container(id, force=True)

    def try_run(self, bundle: str) -> SetupError | tuple[int, str]:
        """A typed error or a result; anything else fails the test."""
        try:
            return self.run(bundle)
        except SetupError as error:
            assert error.errno, error
            return error
        except InvalidBundleError as error:
            raise AssertionError(f"the bundle itself is right: {error}") from error


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: a terminal whose other side is closed
        return b""


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Checks afterwards that the host is unchanged, and that nothing was left."""
    # other tests run in the same process: the memfd of the init is made by the first container and stays
    made = Attack(tmp_path)
    made.run(made.bundle(["true"]))
    facts = host_facts(made.canary)
    before = HostSnapshot.take(made.root)
    yield made
    for id in [state.id for state in made.runtime.list_container_states()]:
        made.runtime.delete_container(id, force=True)
    now = host_facts(made.canary)
    assert [(name, facts[name], now[name]) for name in facts if now[name] != facts[name]] == []
    # cgroups of other runs of the tests on this host come and go
    differences = [line for line in HostSnapshot.take(made.root).differences(before) if " cgroups: " not in line or ID in line]
    assert differences == [], differences  # told here, because pytest does not rewrite this module
    shutil.rmtree(made.rootfs, ignore_errors=True)  # a copy for each test is too much for a machine with its files in memory


@pytest.fixture(scope="session")
def compile_static(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """compile(name, source): a static program for a rootfs."""
    directory = tmp_path_factory.mktemp("programs")

    def build(name: str, source: str) -> Path:
        program, file = directory / name, directory / f"{name}.c"
        file.write_text(source)
        triplet = f"{platform.machine()}-linux-gnu"
        subprocess.run(["musl-gcc", "-static", "-O1", "-Wall", "-D_GNU_SOURCE", "-idirafter", "/usr/include", "-idirafter",
                        f"/usr/include/{triplet}", "-o", str(program), str(file)], check=True)
        return program

    return build
