"""The processes of a container without a cgroup: those that it began with, and all that descend from them.

In a pid namespace of its own these are all, since there an orphan becomes its init's child. Without one, orphans are not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pyruntime.native import files
from pyruntime.native import process as native
from pyruntime.runtimes.identity import is_alive, open_process
from pyruntime.state import ContainerRecord, ProcessRecord


def pids_of(record: ContainerRecord, made: Iterable[ProcessRecord]) -> set[int]:
    """made: the exec processes on record."""
    return set(_found(record, made))


def descendants(roots: set[int], parents: Mapping[int, int]) -> set[int]:
    """These and all below them. parents: of each process."""
    children = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children[pid]
    return found


def signal_each(record: ContainerRecord, made: Iterable[ProcessRecord], number: int) -> None:
    """Also those that others start meanwhile and that are seen in time. What is to be killed is stopped first, until all are: it starts no
    others then, and of one that has ended the children would not be found."""
    made = list(made)
    seen: dict[int, int] = {}
    first = signal.SIGSTOP if number == signal.SIGKILL else number
    while new := {pid: start for pid, start in _found(record, made).items() if seen.get(pid) != start}:
        _signal(new, first)
        seen |= new
    if first != number:
        _signal(seen, number)


def _signal(processes: Mapping[int, int], number: int) -> None:
    for pid, start_time in processes.items():
        with open_process(pid, start_time) as pidfd, contextlib.suppress(ProcessLookupError):
            if pidfd is not None:
                native.send_signal(pidfd, number)


def _found(record: ContainerRecord, made: Iterable[ProcessRecord]) -> dict[int, int]:
    """Pids with their start times."""
    begun = [(record.pid, record.start_time), *((process.pid, process.start_time) for process in made if process.exit_code is None)]
    parents, start_times = _all()
    roots = {pid for pid, start_time in begun if is_alive(pid, start_time)}
    return {pid: start_times[pid] for pid in descendants(roots, parents) if pid in start_times}


def _all() -> tuple[dict[int, int], dict[int, int]]:
    """Of the host's processes: their parents and their start times."""
    parents, start_times = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                data = files.read(f"/proc/{name}/stat")
                # the command in parentheses may hold anything
                fields = data[data.rindex(b")") + 2:].split()
                parents[int(name)], start_times[int(name)] = int(fields[1]), int(fields[19])
    return parents, start_times
