"""Where the benchmark works, and that nothing of it stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import bundle
from bench.bundle import CGROUP_PARENT
from bench.samples import ContenderError

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMORY = Path("/dev/shm")
OUR_CGROUPS = (CGROUP_PARENT, "pyruntime-floor")
REMOVAL_TIMEOUT_S = 5


def is_unified() -> bool:
    """Whether the host has cgroup v2 and nothing else."""
    return (CGROUP_ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The mount points of the host's cgroup file systems."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            points.append(Path(before.split()[4]))
    return points


class Workspace:
    """Temporary directories, the bundles in one, the runtimes' state in the other, and whatever must be closed before they go."""

    def __init__(self, directory: Path, state: Path) -> None:
        self.directory = directory
        self.state = state
        self.unified = is_unified()
        self._image = bundle.make_rootfs(directory)
        self._closers: list[Callable[[], None]] = []

    @property
    def image(self) -> Path:
        return self._image

    def bundle(self, name: str, *arguments: str) -> Path:
        """A new bundle of `arguments`, or of /bin/true."""
        return bundle.make_bundle(
            self.directory, name, arguments or ("/bin/true",), self.unified, self._image / "bin" / "busybox"
        )

    def sleep_bundle(self, name: str) -> Path:
        return self.bundle(name, "/bin/sleep", "1000000")

    def at_end(self, close: Callable[[], None]) -> None:
        self._closers.append(close)

    def close(self, notes: list[str]) -> None:
        for close in reversed(self._closers):
            try:
                close()
            except Exception as error:  # the rest has to be removed all the same
                notes.append(f"clean-up: {type(error).__name__}: {error}")


def _processes(cgroup: Path) -> list[int]:
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def remove_cgroup(cgroup: Path) -> None:
    """Kill what is left in a cgroup that this benchmark made, and remove it with all below."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        path = Path(directory)
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while path.exists():
            for pid in _processes(path):
                with suppress(ProcessLookupError):  # ended meanwhile
                    os.kill(pid, signal.SIGKILL)
            try:
                path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # cgroup v1 has no event that can be waited for


@contextmanager
def workspace(notes: list[str]) -> Iterator[Workspace]:
    """Make it, and remove all that it made, however the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="pyruntime-bench-"))
    # in memory where that is possible, as /run is on a host
    state = Path(tempfile.mkdtemp(prefix="pyruntime-bench-", dir=MEMORY if MEMORY.is_dir() else None))
    space = Workspace(directory, state)
    try:
        yield space
    finally:
        space.close(notes)
        for hierarchy in hierarchies():
            for name in OUR_CGROUPS:
                remove_cgroup(hierarchy / name)
        shutil.rmtree(directory)
        shutil.rmtree(state)


@contextmanager
def hugetlb_hierarchy() -> Iterator[None]:
    """Mount the hugetlb hierarchy of a v1 host that lacks it: crun fails without, and all contenders see it alike.

    Raises ContenderError if that cannot be done.
    """
    point = CGROUP_ROOT / "hugetlb"
    controllers = [line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()]
    if is_unified() or "hugetlb" not in controllers or point in hierarchies():
        yield
        return
    is_new = not point.exists()
    point.mkdir(exist_ok=True)
    try:
        _run("mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", str(point))
        try:
            yield
        finally:
            for name in OUR_CGROUPS:
                remove_cgroup(point / name)
            _run("umount", str(point))
    finally:
        if is_new:  # engines make directories where a hierarchy would be
            point.rmdir()


def _run(*command: str) -> None:
    completed = subprocess.run(command, capture_output=True, text=True)
    if completed.returncode:
        raise ContenderError(f"'{' '.join(command)}' failed: {completed.stderr.strip()}")
