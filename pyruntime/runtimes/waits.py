"""Waiting for processes, ours and those of other callers, and remembering how they ended."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import msgspec

from pyruntime.cgroups import ContainerCgroups
from pyruntime.errors import ExitStatusUnknownError
from pyruntime.interface import ProcessExitState
from pyruntime.native import process as native
from pyruntime.runtimes.identity import wait_foreign
from pyruntime.runtimes.live import Entry, LiveProcess
from pyruntime.state import ContainerRecord, ProcessRecord, Store

_State = TypeVar("_State", ProcessExitState, ProcessExitState | None)


class Waits:
    """The waits of one runtime object; results are None where the status went to somebody else and was not saved."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def for_container(self, record: ContainerRecord, entry: Entry) -> ProcessExitState | None:
        """Every exec process and init; init's status."""
        exit_state = self.for_init(record, entry)
        if not record.shares_pid_namespace:
            # it ended after all others in its pid namespace
            for live in list(entry.processes.values()):
                self.for_live(record, live)
            return exit_state
        # there, the end of init ends nothing by itself
        ContainerCgroups(record.cgroups).kill(frozenset({record.pid}), frozenset(entry.processes))
        self._for_exec_processes(record, entry)
        return exit_state

    def _for_exec_processes(self, container: ContainerRecord, entry: Entry) -> None:
        seen: set[int] = set()
        while left := [live for pid, live in list(entry.processes.items()) if pid not in seen]:
            for live in left:
                seen.add(live.pid)
                self.for_live(container, live)
        for record in self._store.processes(container.id):
            if record.pid not in seen and record.exit_code is None:
                wait_foreign(record.pid, record.start_time)

    def for_init(self, record: ContainerRecord, entry: Entry) -> ProcessExitState | None:
        init = entry.init
        if init is None:
            exit_state = wait_foreign(record.pid, record.start_time)
            return _with_oom(record, exit_state, True) or _restore(self._store.load_exit(record.id), record.start_time)
        if init.is_waited_for:
            return entry.wait_init(init)
        exit_state = entry.wait_init(init)
        if exit_state is not None and not init.is_waited_for:
            if exit_state.peak_memory_bytes is None:
                exit_state = msgspec.structs.replace(exit_state, peak_memory_bytes=ContainerCgroups(record.cgroups).peak_memory())
            exit_state = _with_oom(record, exit_state, True)
            if entry.has_run_out_of_memory:
                exit_state = msgspec.structs.replace(exit_state, oom_killed=True)
            init.exit_state = exit_state
            init.is_waited_for = True
            self._store.save_exit(record.id, _with_exit(init, exit_state))
        return init.exit_state

    def for_live(self, container: ContainerRecord, live: LiveProcess) -> ProcessExitState | None:
        """An exec process that we made."""
        first = not live.is_waited_for
        live.is_waited_for = True
        exit_state = live.wait()
        if first and exit_state is not None:
            exit_state = live.exit_state = _with_oom(container, exit_state, False)
            # for other processes that ask later; the container may be deleted meanwhile
            with live.recording, contextlib.suppress(FileNotFoundError):
                if live.record is not None:
                    ended = _with_exit(live, exit_state)
                    self._store.end_process(container.id, live.record, ended)
                    live.record = ended
        return exit_state

    def for_foreign(self, container: ContainerRecord, record: ProcessRecord) -> ProcessExitState | None:
        """An exec process that somebody else made."""
        exit_state = None if record.exit_code is not None else wait_foreign(record.pid, record.start_time)
        return _with_oom(container, exit_state, False) or _restore(self._store.load_process(container.id, record.pid), record.start_time)


def known(exit_state: ProcessExitState | None, id: str, pid: int) -> ProcessExitState:
    """Raises ExitStatusUnknownError for None."""
    if exit_state is None:
        raise ExitStatusUnknownError(id, pid)
    return exit_state


def with_oom(exit_state: ProcessExitState, cgroups: ContainerCgroups, is_init: bool) -> ProcessExitState:
    """And whether the kernel has killed for want of memory, of a process of a container where that is limited."""
    kills = cgroups.oom_kills() if is_init or exit_state.signal == native.SIGKILL else 0
    return exit_state if kills is None else msgspec.structs.replace(exit_state, oom_killed=kills > 0)


def _with_oom(container: ContainerRecord, exit_state: _State, is_init: bool) -> _State:
    if exit_state is None or not container.limits_memory:
        return exit_state
    return with_oom(exit_state, ContainerCgroups(container.cgroups), is_init)


def _with_exit(live: LiveProcess, exit_state: ProcessExitState) -> ProcessRecord:
    return ProcessRecord(live.pid, live.start_time, exit_state.exit_code, exit_state.signal, exit_state.user_seconds,
                         exit_state.system_seconds, exit_state.peak_memory_bytes, exit_state.oom_killed)


def _restore(saved: ProcessRecord | None, start_time: int) -> ProcessExitState | None:
    if saved is None or saved.exit_code is None or saved.start_time != start_time:
        return None
    return ProcessExitState(saved.exit_code, saved.signal, saved.user_seconds, saved.system_seconds,
                            saved.peak_memory_bytes, saved.oom_killed)
