"""A container's status: it is derived from what there is, and stored nowhere."""

from __future__ import annotations

from pyruntime.cgroups import ContainerCgroups
from pyruntime.interface import Status
from pyruntime.native import process as native
from pyruntime.runtimes.identity import is_alive
from pyruntime.runtimes.live import Entry
from pyruntime.state import ContainerRecord
from pyruntime.state.names import START_SOCKET


def status_of(record: ContainerRecord, entry: Entry | None, directory: str) -> Status:
    """entry: what the runtime object holds of it; directory: with the container's state."""
    init = entry.init if entry is not None else None
    if init.has_ended() if init is not None else not is_alive(record.pid, record.start_time):
        return Status.STOPPED
    return status_of_living(record, entry, directory)


def status_of_living(record: ContainerRecord, entry: Entry | None, directory: str) -> Status:
    """The same of one that has been seen to run."""
    if (entry is None or not entry.has_started) and native.awaits_start(directory, START_SOCKET, record.pid):
        return Status.CREATED
    cgroups = entry.cgroups if entry is not None and entry.record is record and entry.cgroups else ContainerCgroups(record.cgroups)
    return Status.PAUSED if cgroups.is_frozen() else Status.RUNNING
