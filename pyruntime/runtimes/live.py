"""Processes while this runtime knows them: their pidfd, their streams, and their end."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING

import msgspec

from pyruntime.cgroups import ContainerCgroups
from pyruntime.interface import ProcessExitState, StdioPipes
from pyruntime.native import process as native
from pyruntime.runtimes.compiled import ProcessCache
from pyruntime.runtimes.pidfd import SharedPidfd
from pyruntime.runtimes.stdio import close_pipes
from pyruntime.state import ContainerRecord, ProcessRecord

if TYPE_CHECKING:
    from pyruntime.runtimes.events import MemoryEvents


class LiveProcess:
    """A process made by this runtime object, from its making until it is deleted.

    record   what is on disk of an exec process, None once it was deleted; changed with `recording` held
    """

    def __init__(self, pid: int, start_time: int, pidfd: int, pipes: StdioPipes, hidden_peak_bytes: int = 0) -> None:
        self.pid = pid
        self.start_time = start_time
        self.record: ProcessRecord | None = ProcessRecord(pid, start_time)
        self.recording = threading.Lock()
        self.pidfd = SharedPidfd(pidfd)
        self.pipes = pipes
        # the kernel counts the caller's memory as this process's until it executed the init: a peak below is not its own
        self.hidden_peak_bytes = hidden_peak_bytes
        self.exit_state: ProcessExitState | None = None
        self.is_reaped = False
        self.is_waited_for = False
        self._reaping = threading.Lock()

    def has_ended(self) -> bool:
        if self.is_reaped:
            return True
        try:
            with self.pidfd as pidfd:
                return native.has_ended(pidfd)
        except ProcessLookupError:
            return True

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError, ValueError for what is no signal."""
        with self.pidfd as pidfd:
            native.send_signal(pidfd, number)

    def kill(self) -> bool:
        """SIGKILL; whether it was running."""
        if self.has_ended():
            return False
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(9)
        return True

    def wait(self, has_ended: bool = False) -> ProcessExitState | None:
        """Any number of threads; one reaps. None: the status went to somebody else and the kernel keeps it no more.

        has_ended   that is known already
        """
        if self.is_reaped:
            return self.exit_state
        # given up is only what was reaped
        with contextlib.suppress(ProcessLookupError), self.pidfd as pidfd:
            if not has_ended:
                native.wait_until_ended(pidfd)
            with self._reaping:
                if not self.is_reaped:
                    self.exit_state = self._without_hidden_peak(native.reap(pidfd))
                    self.is_reaped = True
        return self.exit_state

    def _without_hidden_peak(self, exit_state: ProcessExitState | None) -> ProcessExitState | None:
        if exit_state is None or (exit_state.peak_memory_bytes or 0) > self.hidden_peak_bytes:
            return exit_state
        return msgspec.structs.replace(exit_state, peak_memory_bytes=None)

    def end(self) -> None:
        """Kill it, wait for it and forget it."""
        self.kill()
        self.wait()
        self.close()

    def close(self) -> None:
        """Forget it: for an ended process that nobody waits for."""
        self.pidfd.give_up()
        close_pipes(self.pipes)


class Entry:
    """What this runtime object holds of a container that it made or looked at.

    init, record, cgroups   of a container that it made itself
    has_started             that init, for certain
    has_run_out_of_memory   as far as it was told while that init was waited for
    """

    def __init__(self, init: LiveProcess | None = None, record: ContainerRecord | None = None, has_started: bool = False) -> None:
        self.lock = threading.RLock()
        self.init = init
        self.record = record
        self.cgroups = ContainerCgroups(record.cgroups) if record is not None else None
        self.has_started = has_started
        self.has_run_out_of_memory = False
        self.processes: dict[int, LiveProcess] = {}
        self.process_cache = ProcessCache()
        self._wakers: list[int] = []

    def find(self, pid: int) -> LiveProcess | None:
        """Init, or an exec process."""
        if self.init is not None and self.init.pid == pid:
            return self.init
        return self.processes.get(pid)

    def add(self, live: LiveProcess) -> None:
        """Remember an exec process, and tell those who wait for init."""
        earlier = self.processes.get(live.pid)
        self.processes[live.pid] = live
        if earlier is not None:  # it was waited for and not deleted: the kernel was free to give its pid out again
            earlier.close()
        for waker in list(self._wakers):
            os.eventfd_write(waker, 1)

    def wait_init(self, init: LiveProcess) -> ProcessExitState | None:
        """Wait for init to end. Exec processes that end meanwhile are reaped: until then the kernel keeps the init of
        a pid namespace from ending. Their statuses are kept for those who ask."""
        if init.has_ended():
            return init.wait(has_ended=True)
        waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakers.append(waker)
        try:
            with contextlib.ExitStack() as held:
                memory = self._memory_events(held)
                while not self._reap_until_event(init, waker, memory):
                    pass
        finally:
            self._wakers.remove(waker)
            os.close(waker)
        return init.wait(has_ended=True)

    def _memory_events(self, held: contextlib.ExitStack) -> MemoryEvents | None:
        """For a container whose cgroup may be gone when its init has ended, because systemd removes it."""
        if self.record is None or self.record.unit is None or not self.record.limits_memory:
            return None
        from pyruntime.runtimes.events import memory_events  # nobody else needs them

        try:
            memory = memory_events(self.record.cgroups, held)
        except OSError:
            return None
        self.has_run_out_of_memory |= bool(ContainerCgroups(self.record.cgroups).oom_kills())
        return memory

    def _reap_until_event(self, init: LiveProcess, waker: int, memory: MemoryEvents | None) -> bool:
        """Wait until a process ends or is added, or memory runs out; whether it was init that ended."""
        with contextlib.ExitStack() as held:
            poll = select.poll()
            poll.register(waker, select.POLLIN)
            by_pidfd: dict[int, LiveProcess] = {}
            for live in (init, *self.processes.values()):
                if not live.is_reaped:
                    with contextlib.suppress(ProcessLookupError):
                        by_pidfd[held.enter_context(live.pidfd)] = live
            for pidfd in by_pidfd:
                poll.register(pidfd, select.POLLIN)
            if memory is not None and not memory.is_gone:
                poll.register(memory.descriptor, memory.event)
            if init.is_reaped:
                return True
            has_ended = False
            ready = poll.poll()
            # whatever happened, and at once: the kernel tells of two changes within 10 ms late, and the file may be gone when it does
            if memory is not None and not memory.is_gone:
                self.has_run_out_of_memory |= memory.count() > 0
            for fd, _ in ready:
                if fd == waker:
                    os.eventfd_read(waker)
                elif by_pidfd.get(fd) is init:
                    has_ended = True
                elif fd in by_pidfd:
                    by_pidfd[fd].wait(has_ended=True)
            return has_ended
