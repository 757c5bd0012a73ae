"""Being told of what happens to a container: that its memory ran out, and that it has ended."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Self

from pyruntime.cgroups import Cgroup
from pyruntime.native import files
from pyruntime.runtimes.identity import require_process
from pyruntime.state import ContainerRecord


class ContainerEvents:
    """Made while the container's init is there: what happens from then on is told. Raises ProcessLookupError, OSError."""

    def __init__(self, record: ContainerRecord) -> None:
        self._held = contextlib.ExitStack()
        try:
            self._init = self._held.enter_context(require_process(record.pid, record.start_time))
            self._memory = memory_events(record.cgroups, self._held)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def wait(self, timeout_s: float) -> tuple[int, bool]:
        """How often memory ran out since the last time, and whether the container has ended: as soon as there is something to tell, and
        after that time."""
        poll = select.poll()
        poll.register(self._init, select.POLLIN)
        if self._memory is not None and not self._memory.is_gone:
            poll.register(self._memory.descriptor, self._memory.event)
        ready = dict(poll.poll(max(0, timeout_s * 1000)))
        # also if only the end was told: the kernel tells of two changes of memory.events within 10 ms late
        count = self._memory.count() if self._memory is not None and not self._memory.is_gone else 0
        return count, self._init in ready


class _V1:
    """An eventfd that the kernel adds to (cgroup-v1/memory.rst, "OOM Control").

    is_gone   the cgroup is, as far as was noticed; the descriptor may be ready for ever then
    """

    event = select.POLLIN
    is_gone = False

    def __init__(self, path: str, held: contextlib.ExitStack) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        held.callback(os.close, self.descriptor)
        self._path = path
        with open(f"{path}/memory.oom_control", "rb", buffering=0) as control, \
                open(f"{path}/cgroup.event_control", "wb", buffering=0) as register:
            register.write(b"%d %d" % (self.descriptor, control.fileno()))

    def count(self) -> int:
        """How often memory ran out since the last time. The removal of the cgroup is an event too."""
        try:
            told = os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return 0
        self.is_gone = not os.path.exists(self._path)
        return 0 if self.is_gone else told


class _V2:
    """memory.events, which the kernel says has changed. is_gone as above."""

    event = select.POLLPRI
    is_gone = False

    def __init__(self, path: str, held: contextlib.ExitStack) -> None:
        self.descriptor = os.open(f"{path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        held.callback(os.close, self.descriptor)
        self._last = self._kills()

    def _kills(self) -> int:
        words = os.pread(self.descriptor, 4096, 0).split()
        return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0

    def count(self) -> int:
        try:
            now = self._kills()
        except OSError:  # ENODEV
            self.is_gone = True
            return 0
        before, self._last = self._last, now
        return now - before


MemoryEvents = _V1 | _V2


def memory_events(cgroups: tuple[Cgroup, ...], held: contextlib.ExitStack) -> MemoryEvents | None:
    """What is told of the container's memory, until `held` is closed; None where no memory controller tells. Raises OSError."""
    for cgroup in cgroups:
        if "memory" in cgroup.controllers:
            return _V1(cgroup.path, held)
        if cgroup.is_v2 and len(cgroups) == 1 and b"memory" in files.read(f"{cgroup.path}/cgroup.controllers").split():
            return _V2(cgroup.path, held)
    return None
