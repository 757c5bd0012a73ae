"""The processes of a container without a cgroup: those that it began with, and all that descend from them.

In a pid namespace of its own these are all, since there an orphan becomes its init's child. Without one, orphans are not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable

from pyruntime.native import files
from pyruntime.runtimes.identity import is_alive
from pyruntime.state import ContainerRecord, ProcessRecord


def pids_of(record: ContainerRecord, made: Iterable[ProcessRecord]) -> set[int]:
    """made: the exec processes on record."""
    begun = [(record.pid, record.start_time), *((process.pid, process.start_time) for process in made if process.exit_code is None)]
    return descendants({pid for pid, start_time in begun if is_alive(pid, start_time)}, _parents())


def descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
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
    """Also those that others start meanwhile and that are seen in time."""
    signalled: set[int] = set()
    made = list(made)
    while left := pids_of(record, made) - signalled:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    # a pid that was given to another process before it was opened is not among them any more
                    if pid in pids_of(record, made):
                        signal.pidfd_send_signal(descriptor, number)
                finally:
                    os.close(descriptor)
        signalled |= left


def _parents() -> dict[int, int]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                data = files.read(f"/proc/{name}/stat")
                # the command in parentheses may hold anything
                found[int(name)] = int(data[data.rindex(b")") + 2:].split()[1])
    return found
