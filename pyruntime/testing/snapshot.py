"""What containers could leave behind on the host."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields

# Parents of containers' cgroups, which stay when a container goes. What is below them does not.
LASTING_CGROUPS = frozenset(("pyruntime", "pyruntime-contract"))


@dataclass(frozen=True)
class HostSnapshot:
    """Descriptors and children of this process, mounts of its namespace, all cgroups, files below some directories.

        before = HostSnapshot.take(root)
        ...
        assert HostSnapshot.take(root).differences(before) == []
    """

    descriptors: frozenset[str]
    children: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]

    @classmethod
    def take(cls, *directories: str | os.PathLike[str]) -> HostSnapshot:
        """The host now, with the files below `directories`, which need not exist."""
        files = (path for directory in directories for path in _walk(os.fspath(directory)))
        return cls(frozenset(_descriptors()), frozenset(_children()), frozenset(_mounts()),
                   frozenset(_cgroups("/sys/fs/cgroup")), frozenset(files))

    def differences(self, earlier: HostSnapshot, containers: Iterable[str] | None = None) -> list[str]:
        """What is new and what is gone since `earlier`, one line each.

        containers   ids: with them, cgroups count only if they are named for one, because others of the host come and go
        """
        found = []
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(earlier, field.name)
            if field.name == "cgroups" and containers is not None:
                now, then = (_of_containers(paths, frozenset(containers)) for paths in (now, then))
            found += [f"new in {field.name}: {line}" for line in sorted(now - then)]
            found += [f"gone from {field.name}: {line}" for line in sorted(then - now)]
        return found


def _descriptors() -> Iterable[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"
        except FileNotFoundError:  # the one that lists the directory
            continue


def _children() -> Iterable[str]:
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                pids = file.read().split()
        except FileNotFoundError:
            continue
        for pid in pids:
            yield f"{pid} {_describe(pid)}"


def _describe(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            head, _, tail = file.read().rpartition(") ")
    except (FileNotFoundError, ProcessLookupError):
        return "(gone)"
    return head.partition("(")[2] + (" zombie" if tail.startswith("Z") else "")


def _mounts() -> Iterable[str]:
    with open("/proc/self/mountinfo") as file:
        # without the first two ids, which a mount that was made again has different
        return [" ".join(line.split()[2:]) for line in file]


def _cgroups(top: str) -> Iterable[str]:
    for directory, names, _ in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if name not in LASTING_CGROUPS:
                yield path


def _of_containers(paths: Iterable[str], ids: frozenset[str]) -> frozenset[str]:
    """Those with a component `ID`, `PREFIX-ID` or `PREFIX-ID.scope`."""
    return frozenset(path for path in paths if any(
        component.removesuffix(".scope").endswith(tuple(f"-{id}" for id in ids)) or component in ids
        for component in path.split("/")))


def _walk(top: str) -> Iterable[str]:
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            yield os.path.join(directory, name)
