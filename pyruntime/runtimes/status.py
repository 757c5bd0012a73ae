"""A container's status: it is derived from what there is, and stored nowhere."""

from __future__ import annotations

import contextlib
import os

from pyruntime.cgroups import ContainerCgroups
from pyruntime.interface import Status
from pyruntime.runtimes.identity import is_alive
from pyruntime.runtimes.live import Entry
from pyruntime.state import ContainerRecord
from pyruntime.state.names import START_SOCKET

_INIT_EXECUTABLE = "/memfd:pyruntime-init"


def status_of(record: ContainerRecord, entry: Entry | None, directory: str) -> Status:
    """entry: what the runtime object holds of it; directory: with the container's state."""
    init = entry.init if entry is not None else None
    if init.has_ended() if init is not None else not is_alive(record.pid, record.start_time):
        return Status.STOPPED
    return status_of_living(record, entry, directory)


def status_of_living(record: ContainerRecord, entry: Entry | None, directory: str) -> Status:
    """The same of one that has been seen to run."""
    if (entry is None or not entry.has_started) and os.path.exists(f"{directory}/{START_SOCKET}"):
        # one who started it and died before removing the socket leaves it: the program tells
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{record.pid}/exe").startswith(_INIT_EXECUTABLE):
                return Status.CREATED
    cgroups = entry.cgroups if entry is not None and entry.record is record and entry.cgroups else ContainerCgroups(record.cgroups)
    return Status.PAUSED if cgroups.is_frozen() else Status.RUNNING
