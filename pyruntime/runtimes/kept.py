"""Which plans are kept for the front end of the command line: those that it can execute by itself."""

from __future__ import annotations

import os

import msgspec

from pyruntime.host import Host
from pyruntime.interface import ProcessLike
from pyruntime.native.kept import PLACE_OF_ID, PLACE_OF_NOW, PLACE_OF_PID, PLACE_OF_START_TIME, PlanFile
from pyruntime.plan.compile import Manner
from pyruntime.plan.operations import Plan
from pyruntime.runtimes.compiled import CompiledBundle, completed, warnings_of_process
from pyruntime.runtimes.joined_mounts import joined_mount_namespace
from pyruntime.runtimes.live import Entry
from pyruntime.spec import Hooks
from pyruntime.state import ContainerRecord


def keep_process(file: PlanFile, process: ProcessLike, record: ContainerRecord, entry: Entry, host: Host) -> None:
    """Of a further process that has been executed."""
    encoded = entry.process_cache.compile(process, record, host, 0)
    if _is_plain(encoded.plan):
        file.keep(encoded, warnings_of_process(completed(process, record), record, host))


def keep_bundle(file: PlanFile, compiled: CompiledBundle, id: str, root: str, manner: Manner) -> None:
    """Of a container that has been created: the same for others whose ids have the same length."""
    encoded = compiled.plan(id, root, manner)
    path = compiled.cgroup_path(id)
    if path is None or not _is_plain(encoded.plan) or not _is_plain_bundle(compiled, id):
        return
    # what is put in their places is looked for in the record, and must be nowhere else
    unlike = os.urandom(8)
    place, pid, start_time = f"id-{unlike.hex()}", *(10**18 + int.from_bytes(unlike[at:at + 4], "little") for at in (0, 4))
    record = compiled.record(place, pid, start_time, None, manner.keeps_keyring, msgspec.UNSET)
    data = msgspec.json.encode(record)
    created = msgspec.json.encode(record.created).strip(b'"')
    places = ((str(pid).encode(), PLACE_OF_PID), (str(start_time).encode(), PLACE_OF_START_TIME), (created, PLACE_OF_NOW))
    if record.front is msgspec.UNSET or any(data.count(text) != 2 for text, _ in places):
        return
    for text, byte in places:
        data = data.replace(text, byte)
    cgroup = compiled.cgroup_path(place)
    assert cgroup is not None
    file.keep(encoded, compiled.told_warnings(), data.replace(place.encode(), PLACE_OF_ID),
              os.fsencode(compiled.bundle.rootfs_path) + b"\0",
              os.fsencode(cgroup).replace(place.encode(), PLACE_OF_ID) + b"\0")


def _is_plain_bundle(compiled: CompiledBundle, id: str) -> bool:
    return not (compiled.bundle.shares_pid_namespace or compiled.unit(id) or compiled.resctrl_group(id)
                or joined_mount_namespace(compiled.bundle.spec.linux)
                or (compiled.filter is not None and compiled.filter.listener_path is not None))


def _is_plain(plan: Plan) -> bool:
    return not (plan.opens_console or plan.awaits_hooks or plan.net_devices or plan.preserve_fds or plan.scheduling
                or plan.hooks != Hooks())
