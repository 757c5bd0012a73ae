"""Ending the processes of a container, whoever made them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable

from pyruntime.cgroups import ContainerCgroups
from pyruntime.errors import SetupError
from pyruntime.native import process as native
from pyruntime.runtimes.identity import open_process
from pyruntime.runtimes.live import Entry
from pyruntime.state import ContainerRecord, ProcessRecord

# of what was killed: it ends at once, unless somebody else has to reap what is left in its pid namespace
KILL_TIMEOUT_S = 10.0


def end_processes(entry: Entry, record: ContainerRecord, made: Iterable[ProcessRecord]) -> None:
    """Kill what is left of the processes that were made for a container, and wait until they are gone.

    made   the exec processes on record
    """
    if not record.cgroups and record.shares_pid_namespace:
        from pyruntime.runtimes.process_tree import signal_each  # few need it

        made = list(made)
        signal_each(record, made, 9)  # nothing tells of the others later
    is_running = _kill_known(entry)
    with contextlib.ExitStack() as foreign:
        others = _kill_foreign(entry, record, made, foreign)
        if is_running or others:
            _thaw(ContainerCgroups(record.cgroups))
        # init last: in a pid namespace it does not end before all others have been reaped
        for live in entry.processes.values():
            live.wait()
        for pid, pidfd in others:
            if not native.wait_until_ended(pidfd, KILL_TIMEOUT_S):
                raise SetupError("kill", f"process {pid}", errno.ETIMEDOUT, None, "the one who made it or another "
                                 "process of the container has to reap it")
            native.reap(pidfd)  # it is ours if its parent has died and we are a subreaper
        if entry.init is not None:
            entry.init.wait()


def end_all(entry: Entry, cgroups: ContainerCgroups) -> None:
    """Kill everything in the cgroups of a container of which nothing else is known, and wait until it is gone."""
    if _kill_known(entry):
        _thaw(cgroups)
    for live in (*entry.processes.values(), entry.init):
        if live is not None:
            live.wait()
    cgroups.kill()


def _kill_known(entry: Entry) -> bool:
    """Those that this runtime object made; whether any was running."""
    return any([live.kill() for live in (*entry.processes.values(), entry.init) if live is not None])


def _kill_foreign(entry: Entry, record: ContainerRecord, made: Iterable[ProcessRecord],
                  held: contextlib.ExitStack) -> list[tuple[int, int]]:
    """Processes of this container that another runtime object made, as pid and pidfd; init is the last."""
    records = [process for process in made if process.pid not in entry.processes]
    if entry.init is None:
        records.append(ProcessRecord(record.pid, record.start_time))
    found = []
    for process in records:
        pidfd = held.enter_context(open_process(process.pid, process.start_time))
        if pidfd is not None:
            found.append((process.pid, pidfd))
            with contextlib.suppress(ProcessLookupError):
                native.send_signal(pidfd, 9)
    return found


def _thaw(cgroups: ContainerCgroups) -> None:
    if cgroups.is_frozen():
        cgroups.thaw()
