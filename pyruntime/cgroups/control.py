"""What is done with a container's cgroups while it exists: freezing, listing, killing, removing."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import time
from collections.abc import Iterable

import msgspec

from pyruntime.cgroups import systemd
from pyruntime.cgroups.paths import DEFAULT_PARENT, Cgroup, freezer_of
from pyruntime.errors import SetupError, UnsupportedHostError
from pyruntime.host import read_host
from pyruntime.native import files
from pyruntime.notices import log as _log

REMOVAL_TIMEOUT_S = 10.0
# what opening and what reading a file of a cgroup say when the cgroup is removed
_GONE = (errno.ENOENT, errno.ENODEV)
# also children that send no signal when they end (waitid(2))
_WALL = 0x40000000


class ContainerCgroups:
    """The cgroups of one container. Paths may be gone already: what is not there has no processes and needs no removal.

    unit   name of the systemd unit that they belong to; None if they do to none
    """

    def __init__(self, cgroups: tuple[Cgroup, ...], unit: str | None = None) -> None:
        self.cgroups = cgroups
        self._unit = unit

    @property
    def _unified(self) -> Cgroup | None:
        return next((cgroup for cgroup in self.cgroups if cgroup.is_v2), None)

    @functools.cached_property
    def _freezer(self) -> tuple[str, bytes, bytes]:
        """The file, and what freezes and thaws. Raises SetupError."""
        found = freezer_of(self.cgroups)
        if found is not None:
            return (found[0], b"1", b"0") if found[1] else (found[0], b"FROZEN", b"THAWED")
        raise SetupError("freeze", None, errno.ENODEV, None, "no freezer is mounted on this host" if self.cgroups else
                         "the container has no cgroup")

    def is_frozen(self) -> bool:
        """Whether the container is paused, or about to be."""
        try:
            return files.is_frozen(self._freezer[0])
        except SetupError:
            return False

    def freeze(self) -> None:
        """Stop every process; returns when all are stopped."""
        path, frozen, thawed = self._freezer
        _write("freeze", path, frozen)
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while not self._all_frozen(path):
            if time.monotonic() > deadline:
                _write("thaw", path, thawed)
                raise SetupError("freeze", path, errno.ETIMEDOUT, None, "a process could not be stopped")
            # v1 has no event for this; on v2 cgroup.events is polled
            self._await_event(path)

    def _all_frozen(self, path: str) -> bool:
        if path.endswith("freezer.state"):
            state = files.read(path).strip()
            if state == b"FREEZING":
                # a process that forked meanwhile may have been missed: the kernel looks again on a write
                _write("freeze", path, b"FROZEN")
            return state == b"FROZEN"
        return b"frozen 1" in files.read(_events(path))

    def _await_event(self, path: str) -> None:
        if path.endswith("freezer.state"):
            time.sleep(0.0005)
            return
        with open(_events(path), "rb", buffering=0) as events:
            events.read()
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            if b"frozen 1" not in os.pread(events.fileno(), 4096, 0):
                poll.poll(100)

    def thaw(self) -> None:
        """Let every process go on."""
        path, _, thawed = self._freezer
        _write("thaw", path, thawed)

    def pids(self) -> list[int]:
        """Pids of all processes in the container's cgroup and those below it, ascending."""
        # one hierarchy knows them all, of those that are still there: pids on v1, else the unified one, else any
        by_choice = sorted(self.cgroups, key=lambda cgroup: ("pids" not in cgroup.controllers, not cgroup.is_v2))
        chosen = next((cgroup for cgroup in by_choice if os.path.isdir(cgroup.path)), None)
        return sorted(_pids_below(chosen.path)) if chosen is not None else []

    def _pids_anywhere(self) -> set[int]:
        """Also of one that has not joined all hierarchies yet."""
        return {pid for cgroup in self.cgroups for pid in _pids_below(cgroup.path)}

    def peak_memory(self) -> int | None:
        """The most memory, in bytes, that the container as a whole used at once; None where no memory controller tells."""
        for cgroup in self.cgroups:
            if cgroup.is_v2 or "memory" in cgroup.controllers:
                name = "memory.peak" if cgroup.is_v2 else "memory.max_usage_in_bytes"
                with contextlib.suppress(OSError):
                    return int(files.read(f"{cgroup.path}/{name}"))
        return None

    def oom_kills(self) -> int | None:
        """How many processes of the container the kernel has killed for want of memory; None where no memory controller tells."""
        for cgroup in self.cgroups:
            if "memory" in cgroup.controllers or (cgroup.is_v2 and len(self.cgroups) == 1):
                with contextlib.suppress(OSError):
                    words = files.read(f"{cgroup.path}/{'memory.events' if cgroup.is_v2 else 'memory.oom_control'}").split()
                    return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else None
        return None

    def kill(self, spare: frozenset[int] = frozenset(), unreaped: frozenset[int] = frozenset()) -> None:
        """SIGKILL for every process but those spared; returns when they are gone from the cgroup.

        Orphans that became the caller's children, because it is a subreaper, are reaped; `unreaped` are left to others.
        """
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while True:
            left = self._pids_anywhere() - spare
            if not left:
                return
            if not spare:
                self._kill_at_once()
            with contextlib.ExitStack() as held:
                descriptors = _kill_each(left, held)
                if self.is_frozen():
                    self.thaw()
                _await_end(descriptors, unreaped, deadline)

    def _kill_at_once(self) -> None:
        """On v2, also what is being forked meanwhile. Where that cannot be (a threaded cgroup), one by one is left."""
        if self._unified is not None:
            with contextlib.suppress(SetupError):
                _write("kill", f"{self._unified.path}/cgroup.kill", b"1")

    def signal(self, number: int) -> None:
        """To every process, also those that others start meanwhile and that are seen in time."""
        from signal import pidfd_send_signal  # few commands need it

        signalled: set[int] = set()
        with contextlib.ExitStack() as held:
            while left := [pid for pid in self.pids() if pid not in signalled]:
                opened = _open_each(left, held)
                # a pid that was given to another process before it was opened is not among them any more
                for pid in set(self.pids()) & opened.keys():
                    with contextlib.suppress(ProcessLookupError):
                        pidfd_send_signal(opened[pid], number)
                signalled.update(left)

    def beside(self, pid: int) -> tuple[Cgroup, ...]:
        """The cgroups that a further process can enter where the container's own v2 cgroup passes controllers on to cgroups
        below it and takes no processes any more (cgroups(7), "No internal processes"): that of its process `pid`."""
        with open(f"/proc/{pid}/cgroup") as file:
            path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
        return tuple(msgspec.structs.replace(cgroup, path=below) if cgroup.is_v2 and (
            below := cgroup.path[:cgroup.mount_length] + path).startswith(cgroup.path + "/") else cgroup
            for cgroup in self.cgroups)

    def remove(self) -> None:
        """Remove the directories, and those that the container made below them; what still runs in them is killed. The unit is stopped
        before, and no longer known when this returns."""
        if self._unit is not None:
            self.kill()
            self._stop_unit(self._unit)
        for path in self._remove_idle():
            self.kill()
            self._remove_busy(path)

    def remove_empty(self) -> None:
        """Remove the directories after a container's processes have ended before it was one. What others run in them is let be, and so is
        what they have frozen."""
        if self._unit is not None:
            self._stop_unit(self._unit)
        for path in self._remove_idle(self._frozen_itself()):
            if not _pids_below(path):
                self._remove_busy(path)

    @staticmethod
    def _stop_unit(unit: str) -> None:
        """A system bus that is down keeps nobody from deleting a container: systemd forgets a unit by itself that nothing is in."""
        try:
            systemd.stop_unit(unit)
        except (SetupError, UnsupportedHostError) as error:
            _log.warning("systemd was not told that %s has ended: %s", unit, error)

    def _frozen_itself(self) -> str | None:
        """The cgroup that somebody has frozen, rather than one above it."""
        try:
            path = self._freezer[0]
            directory, _, name = path.rpartition("/")
            is_so = files.read(f"{directory}/freezer.self_freezing" if name == "freezer.state" else path).strip() == b"1"
            return directory if is_so else None
        except (SetupError, OSError):
            return None

    def _remove_idle(self, spared: str | None = None) -> list[str]:
        """Those that could not be removed, since something is in them. Raises SetupError."""
        paths = [cgroup.path for cgroup in self.cgroups if cgroup.path != spared]
        found = list(zip(paths, files.remove_empty_directories(paths), strict=True))
        for path, error in found:
            # a file of the parent may have the container's name, so that it could not be made
            if error not in (0, errno.ENOENT, errno.ENOTDIR, errno.EBUSY, errno.ENOTEMPTY):
                raise SetupError("remove cgroup", path, error, None)
        return [path for path, error in found if error in (errno.EBUSY, errno.ENOTEMPTY)]

    def _remove_busy(self, path: str) -> None:
        """A child below it, or a process on its way out."""
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while True:
            for directory, _, _ in os.walk(path, topdown=False):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise SetupError("remove cgroup", directory, error.errno or 0, None) from error
            if not os.path.exists(path):
                return
            time.sleep(0.001)  # the kernel tells of no event when the last reference to a v1 cgroup goes


def _open_each(pids: Iterable[int], held: contextlib.ExitStack) -> dict[int, int]:
    """pidfds, which `held` closes, by pids."""
    found = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found[pid] = os.pidfd_open(pid)
            held.callback(os.close, found[pid])
    return found


def _kill_each(pids: Iterable[int], held: contextlib.ExitStack) -> dict[int, int]:
    """SIGKILL; the pids by pidfds, which `held` closes."""
    from signal import SIGKILL, pidfd_send_signal

    found = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            held.callback(os.close, descriptor)
            found[descriptor] = pid
            pidfd_send_signal(descriptor, SIGKILL)
    return found


def _await_end(descriptors: dict[int, int], unreaped: frozenset[int], deadline: float) -> None:
    """In whatever order: the init of a pid namespace does not end before all others in it have been reaped. Raises SetupError."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    running = set(descriptors)
    while running:
        ended = [descriptor for descriptor, _ in poll.poll(max(0, int((deadline - time.monotonic()) * 1000)))]
        if not ended:
            raise SetupError("kill", f"{len(running)} processes", errno.ETIMEDOUT, None)
        for descriptor in ended:
            poll.unregister(descriptor)
            running.remove(descriptor)
            if descriptors[descriptor] not in unreaped:
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | _WALL)


def _pids_below(path: str) -> set[int]:
    found: set[int] = set()
    for directory, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            found.update(map(int, files.read(f"{directory}/cgroup.procs").split()))
    found.discard(0)  # processes of pid namespaces that are not below ours
    return found


def remove_empty_parent(parent: str = DEFAULT_PARENT) -> None:
    """Remove a parent of containers' cgroups from every hierarchy where nothing is in it.

    Deleting a container leaves its parent for the next one: making it again would cost more than anything else of a delete.
    Who has deleted the last container may call this; a container that is created meanwhile makes its parent again.

    parent   from the hierarchies' roots
    """
    for hierarchy in read_host().hierarchies:
        try:
            os.rmdir(hierarchy.mount_point + parent)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, *_GONE):
                raise SetupError("remove cgroup", hierarchy.mount_point + parent, error.errno or 0, None) from error


def _events(freeze_path: str) -> str:
    return freeze_path.removesuffix("cgroup.freeze") + "cgroup.events"


def _write(step: str, path: str, value: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SetupError(step, path, error.errno or 0, None) from error
