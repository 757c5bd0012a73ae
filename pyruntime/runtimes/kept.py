"""Which plans are kept for the front end of the command line: those that it can execute by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from pyruntime.errors import InvalidBundleError
from pyruntime.host import Host
from pyruntime.interface import ProcessLike
from pyruntime.native.encoder import EncodedPlan
from pyruntime.native.kept import PLACE_OF_NOW, PLACE_OF_PID, PLACE_OF_START_TIME, PLACES, PlanFile, place_of_value
from pyruntime.plan.compile import Manner
from pyruntime.plan.operations import Plan
from pyruntime.runtimes.bundle import OpenedBundle
from pyruntime.runtimes.compiled import BundleCache, CompiledBundle, completed, warnings_of_process
from pyruntime.runtimes.joined_mounts import joined_mount_namespace
from pyruntime.runtimes.live import Entry
from pyruntime.spec import Hooks, read_config
from pyruntime.state import ContainerRecord

_ID = 0  # of the values


class _Creation(msgspec.Struct, frozen=True):
    """What is kept of a bundle. All texts have a place where the id and what is not known before go."""

    encoded: EncodedPlan
    record: bytes
    rootfs: bytes
    cgroup: bytes
    text: bytes
    document: bytes

    @property
    def parts(self) -> tuple[bytes, ...]:
        return self.encoded.data, self.record, self.rootfs, self.cgroup, self.text, self.document


def keep_process(file: PlanFile, process: ProcessLike, record: ContainerRecord, entry: Entry, host: Host) -> None:
    """Of a further process that has been executed."""
    encoded = entry.process_cache.compile(process, record, host, 0)
    if _is_plain(encoded.plan):
        file.keep(encoded, file.render(warnings_of_process(completed(process, record), record, host)))


def keep_bundle(file: PlanFile, bundles: BundleCache, bundle_path: str, id: str, root: str, manner: Manner) -> None:
    """Of a container that has been created: the same for others of its kind, whose bundles differ in `file.values` alone.

    Nobody says where in the plan those are. So, if there are any besides the id, it is made once more of a bundle with values drawn by lot:
    where these are found is where another container's go, and if that is not all in which the two plans differ, something depends on them and
    nothing is kept.
    """
    compiled = bundles.open(bundle_path)
    creation = _creation_of(compiled, file, id, root, manner)
    if creation is None:
        return
    drawn = [_drawn_like(value) for value in file.values]
    # the id is looked for only if it is such a name; if not, it may be any text
    indices = {value: index for index, value in enumerate(drawn) if file.exchange(file.values[index], drawn) == value != file.values[index]}
    model: _Creation | None = creation
    if indices:
        path = compiled.bundle.path
        try:
            other = OpenedBundle.decode(os.fsdecode(file.exchange(os.fsencode(path), drawn)), file.exchange(read_config(path), drawn))
            model = _creation_of(bundles.compile(other), file, id, root, manner)
        except InvalidBundleError:  # what looks like a name is none
            return
    actual = {value: file.values[index] for value, index in indices.items()}
    if model is None or [_exchanged(part, actual) for part in model.parts] != [*creation.parts]:
        return
    holes = [(offset, _ID) for offset in model.encoded.holes]
    for value, index in indices.items():
        holes += ((offset, index) for offset in _offsets_of(value, model.encoded.data))
    places = {value: place_of_value(index) for value, index in indices.items()}
    _, record, rootfs, cgroup, *told = (_exchanged(part, places) for part in model.parts)
    file.keep(creation.encoded, (told[0], told[1]), holes, record, rootfs, cgroup)


def _creation_of(compiled: CompiledBundle, file: PlanFile, id: str, root: str, manner: Manner) -> _Creation | None:
    """None where the front end cannot do it."""
    encoded = compiled.plan(id, root, manner)
    if compiled.cgroup_path(id) is None or not _is_plain(encoded.plan) or not _is_plain_bundle(compiled, id):
        return None
    # what is put in their places is looked for in the record, and must be nowhere else
    unlike = os.urandom(8)
    place, pid, start_time = f"id-{unlike.hex()}", *(10**18 + int.from_bytes(unlike[at:at + 4], "little") for at in (0, 4))
    record = compiled.record(place, pid, start_time, None, manner, msgspec.UNSET)
    data = msgspec.json.encode(record)
    created = msgspec.json.encode(record.created).strip(b'"')
    places = {str(pid).encode(): PLACE_OF_PID, str(start_time).encode(): PLACE_OF_START_TIME, created: PLACE_OF_NOW}
    if record.front is msgspec.UNSET or any(data.count(text) != 2 for text in places):
        return None
    cgroup = compiled.cgroup_path(place)
    assert cgroup is not None
    paths = os.fsencode(compiled.bundle.rootfs_path), os.fsencode(cgroup)
    if any(byte in path for byte in PLACES for path in paths):  # by an escape of JSON
        return None
    of_id = {place.encode(): place_of_value(_ID)}
    return _Creation(encoded, _exchanged(data, places | of_id), paths[0], _exchanged(paths[1], of_id),
                     *file.render(compiled.told_warnings()))


def _drawn_like(value: bytes) -> bytes:
    """As long, with other digits. It is looked for as a text, so it must be found nowhere else by chance."""
    digits = iter(os.urandom(len(value)).hex().encode())
    return bytes(next(digits) if byte in b"0123456789abcdef" else byte for byte in value)


def _exchanged(text: bytes, others: dict[bytes, bytes]) -> bytes:
    for before, after in others.items():
        text = text.replace(before, after)
    return text


def _offsets_of(part: bytes, data: bytes) -> Iterator[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + len(part))


def _is_plain_bundle(compiled: CompiledBundle, id: str) -> bool:
    return not (compiled.bundle.shares_pid_namespace or compiled.unit(id) or compiled.resctrl_group(id)
                or joined_mount_namespace(compiled.bundle.spec.linux)
                or (compiled.filter is not None and compiled.filter.listener_path is not None))


def _is_plain(plan: Plan) -> bool:
    return not (plan.opens_console or plan.awaits_hooks or plan.net_devices or plan.preserve_fds or plan.scheduling
                or plan.hooks != Hooks())
