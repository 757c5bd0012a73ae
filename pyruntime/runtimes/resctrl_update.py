"""Other schemata for the resctrl group of a container that runs; one that has no group gets one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.native import files
from pyruntime.plan.intel_rdt import PATH, group_of
from pyruntime.runtimes.resctrl import ResctrlGroups
from pyruntime.spec import IntelRdt, decode_intel_rdt
from pyruntime.state import ContainerRecord

# writing a thread's number moves it alone, and it may make others meanwhile
_ROUNDS_MAX = 100


@contextlib.contextmanager
def changed_group(record: ContainerRecord, rdt: IntelRdt | Mapping[str, Any], host: Host, list_pids: Callable[[], Iterable[int]],
                  note: Callable[[tuple[str, ...]], None]) -> Iterator[ContainerRecord]:
    """The record as it is then; where this, or what is done in it, fails, all is as it was. Raises InvalidBundleError, SetupError.

    list_pids   of the container's processes, which go into a new group
    note        is told before which groups are going to be removed with the container
    """
    wanted = _checked(decode_intel_rdt(rdt))
    if not (wanted.l3_cache_schema or wanted.mem_bw_schema or wanted.schemata):
        yield record
    elif record.resctrl is msgspec.UNSET:
        with _new_group(ResctrlGroups(group_of(wanted, host, record.id)), record, list_pids, note) as changed:
            yield changed
    else:
        with _written(record.resctrl.paths[0], wanted, host, record.id):
            yield record


def _checked(wanted: IntelRdt) -> IntelRdt:
    for name, value in (("closID", wanted.clos_id), ("enableMonitoring", wanted.enable_monitoring)):
        if value:
            raise UnsupportedFieldError(None, f"{PATH}.{name}", "cannot be changed: processes stay in the group that they are in")
    return wanted


@contextlib.contextmanager
def _new_group(groups: ResctrlGroups, record: ContainerRecord, list_pids: Callable[[], Iterable[int]],
               note: Callable[[tuple[str, ...]], None]) -> Iterator[ContainerRecord]:
    try:
        made = groups.make(note)
        _move_all(made.paths[0], list_pids)
        # what has groups is no more the front end's, which would leave them
        yield msgspec.structs.replace(record, resctrl=made, front=msgspec.UNSET)
    except BaseException:
        # into the default group, where the kernel also puts those of a group that is removed
        with contextlib.suppress(OSError, SetupError):
            _move_all(groups.root, list_pids)
        groups.undo()
        note(())
        raise


def _move_all(group: str, list_pids: Callable[[], Iterable[int]]) -> None:
    moved: set[int] = set()
    for _ in range(_ROUNDS_MAX):
        left = {thread for pid in list_pids() for thread in _threads(pid)} - moved
        if not left:
            return
        _move(f"{group}/tasks", left)
        moved |= left
    raise SetupError("join resctrl group", group, 0, PATH, f"the container makes threads faster than they are moved: {len(moved)} by now")


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _move(path: str, threads: Iterable[int]) -> None:
    """Each is a write of its own. Raises SetupError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for thread in sorted(threads):
                with contextlib.suppress(ProcessLookupError):
                    os.write(descriptor, b"%d\n" % thread)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SetupError("join resctrl group", path, error.errno or 0, PATH) from error


@contextlib.contextmanager
def _written(path: str, wanted: IntelRdt, host: Host, id: str) -> Iterator[None]:
    """The container's own group, however it is called."""
    group = msgspec.structs.replace(group_of(wanted, host, id), path=path)
    groups = ResctrlGroups(group)
    before = _read_lines(path)
    names = {line.partition(":")[0].strip() for schema in group.schemas for line in schema.text.splitlines()}
    try:
        groups.write_schemas()
        yield
    except BaseException:
        for line in before:
            # what the kernel does not take is another reason than that for which all is taken back
            if line.partition(":")[0].strip() in names:
                with contextlib.suppress(SetupError):
                    groups.write(line.strip(), PATH)
        raise


def _read_lines(path: str) -> list[str]:
    try:
        return files.read(f"{path}/schemata").decode(errors="replace").splitlines()
    except OSError as error:
        raise SetupError("read schemata", f"{path}/schemata", error.errno or 0, PATH) from error
