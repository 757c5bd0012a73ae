"""The processes in a container, all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyruntime.cgroups import ContainerCgroups
from pyruntime.errors import ProcessNotFoundError
from pyruntime.interface import ContainerProcessState
from pyruntime.runtimes.identity import read_command, read_stat
from pyruntime.runtimes.live import Entry
from pyruntime.state import ContainerRecord, ProcessRecord, Store


def list_processes(record: ContainerRecord, made: Iterable[ProcessRecord], entry: Entry | None) -> list[ContainerProcessState]:
    """All, with those that have ended and were not waited for, by pid.

    made    the exec processes on record
    entry   what this runtime object holds of the container
    """
    made = list(made)
    created = {record.pid: record.start_time}
    created.update((process.pid, process.start_time) for process in made if process.exit_code is None)
    pids = set(ContainerCgroups(record.cgroups).pids()) if record.cgroups else _pids_without_cgroup(record, made)
    # reaped so that init could end, but nobody has asked for them: zombies still, to those who look
    unasked = {live.pid for live in (entry.processes.values() if entry is not None else ())
               if live.is_reaped and not live.is_waited_for}
    found = [ContainerProcessState(pid, ["?"], True, True) for pid in unasked]
    for pid in pids | created.keys() - unasked:
        stat = read_stat(pid)
        by_runtime = stat is not None and created.get(pid) == stat[1]
        zombie = stat is not None and stat[0] in "ZX"
        if stat is None or (zombie and not by_runtime) or (pid not in pids and not (by_runtime and zombie)):
            continue
        command = read_command(pid)
        if command is not None:
            found.append(ContainerProcessState(pid, command, by_runtime, zombie))
    return sorted(found, key=lambda process: process.pid)


def _pids_without_cgroup(record: ContainerRecord, made: Iterable[ProcessRecord]) -> set[int]:
    from pyruntime.runtimes.process_tree import pids_of  # few need it

    return pids_of(record, made)


def signal_all(record: ContainerRecord, made: Callable[[], Iterable[ProcessRecord]], number: int) -> None:
    """To every process of a container, whether or not it has a cgroup that tells of them."""
    if record.cgroups:
        ContainerCgroups(record.cgroups).signal(number)
    else:
        from pyruntime.runtimes.process_tree import signal_each  # few need it

        signal_each(record, made(), number)


def find_process(store: Store, container: ContainerRecord, pid: int, allows_init: bool = True) -> ProcessRecord:
    """Of a process that another runtime object made. Raises ProcessNotFoundError."""
    if pid == container.pid and allows_init:
        return ProcessRecord(pid, container.start_time)
    record = store.load_process(container.id, pid) if pid != container.pid else None
    if record is None:
        raise ProcessNotFoundError(container.id, pid)
    return record
