"""A further process in a container."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec

from pyruntime.cgroups import ContainerCgroups, cgroups_below
from pyruntime.errors import NotRunningError, SetupError
from pyruntime.host import Host
from pyruntime.interface import ProcessLike, Status, StdioOptions
from pyruntime.native import process as native
from pyruntime.plan.process import may_trace
from pyruntime.runtimes.compiled import completed
from pyruntime.runtimes.launch import launch
from pyruntime.runtimes.listener import passing_on
from pyruntime.runtimes.live import Entry, LiveProcess
from pyruntime.state import ContainerRecord, ProcessRecord, Store


def launch_in(record: ContainerRecord, entry: Entry, process: ProcessLike, stdio_options: StdioOptions, descriptors: tuple[int, ...],
              store: Store, host: Host, status: Status, cgroups: Mapping[str, str] = {}) -> LiveProcess:
    """Make it and note it in the store.

    descriptors   the container's init as a pidfd and, where it was passed, its root
    status        the container's
    cgroups       of `cgroups_below`

    Raises NotRunningError, InvalidBundleError, SetupError; then nothing of it is left.
    """
    id, noted = record.id, []
    # the init that waits for its start is trusted still, and may have more than the program will
    if status is Status.CREATED and may_trace(completed(process, record)):
        raise NotRunningError("exec what could have CAP_SYS_PTRACE in", id, status)
    if cgroups:
        try:
            record = msgspec.structs.replace(record, cgroups=cgroups_below(record.cgroups, cgroups))
        except ValueError as error:
            raise SetupError("enter cgroup", None, 0, None, str(error)) from error

    def note(pid: int, start_time: int) -> None:
        noted.append(ProcessRecord(pid, start_time))
        store.add_process(id, noted[-1])

    encoded = entry.process_cache.compile(process, record, host, stdio_options.preserve_fds)
    try:
        pass_on = passing_on(record.filter, lambda: record, Status.CREATED if status is Status.CREATED else Status.RUNNING)
        return launch(encoded, id, stdio_options, native.MESSAGE_EXECUTING, note, descriptors, pass_on=pass_on)
    except SetupError as error:
        beside = ContainerCgroups(record.cgroups).beside(record.pid)
        if error.errno != errno.EBUSY or cgroups or beside == record.cgroups:
            raise
        return launch_in(msgspec.structs.replace(record, cgroups=beside), entry, process, stdio_options, descriptors, store, host, status)
    except BaseException:
        for made in noted:
            store.remove_process(id, made)
        raise
