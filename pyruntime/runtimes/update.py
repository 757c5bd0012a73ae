"""New resources for a container that runs."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pyruntime.cgroups import Cgroup, systemd
from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.host import Host, read_drivers
from pyruntime.native import files
from pyruntime.native.host_plan import run_host_operations
from pyruntime.plan.device_rules import device_program, device_rules, v1_devices
from pyruntime.plan.operations import AttachDeviceProgram, Operation, WriteFile
from pyruntime.plan.resources import limits_memory, limits_pids, resource_writes
from pyruntime.plan.unit_properties import device_properties, resource_properties
from pyruntime.plan.update import completed, in_order, taking_back, v1_device_changes
from pyruntime.spec import Memory, Resources, decode_resources
from pyruntime.state import ContainerRecord

PATH = "$"


def update(record: ContainerRecord, resources: Resources | Mapping[str, Any] | bytes, host: Host) -> ContainerRecord:
    """Change what is given, and nothing else: none of it where one part fails. The record as it is then. Raises InvalidBundleError,
    SetupError."""
    cgroups = record.cgroups
    is_unified = all(cgroup.is_v2 for cgroup in cgroups)
    decoded = completed(decode_resources(resources), is_unified, lambda controller, file: _read_of(cgroups, controller, file))
    rules = device_rules(decoded.devices) if decoded.devices else None
    writes = list(resource_writes(cgroups, decoded, host.page_size, PATH))
    properties = list(resource_properties(decoded, is_unified)) if record.unit is not None else []
    if record.unit is not None and rules is not None:
        # a list that is given is added to the one that there is
        properties += [("DeviceAllow", ("a(ss)", [])), *device_properties(rules, read_drivers())]
    changes = _device_changes(cgroups, decoded)
    if is_unified and decoded.memory is not None and decoded.memory.check_before_update:
        _check_usage(cgroups[0].path, decoded.memory)
    previous = _write_all(_in_order(writes))
    try:
        # systemd writes the files too, rounded: so first this, and what was asked for again
        if record.unit is not None and properties:
            systemd.set_unit_properties(record.unit, properties)
            _write_all(_in_order(writes))
            changes = _device_changes(cgroups, decoded)
        # nothing that fails comes after it, so that it need not be taken back
        _run(changes)
    except BaseException:
        _restore(previous)
        raise
    return msgspec.structs.replace(record, limits_pids=record.limits_pids or limits_pids(decoded),
                                   limits_memory=record.limits_memory or limits_memory(decoded))


def _device_changes(cgroups: tuple[Cgroup, ...], resources: Resources) -> list[Operation]:
    """Another list in place of the one that there is; none if none is given."""
    if not resources.devices:
        return []
    rules, json_path = device_rules(resources.devices), f"{PATH}.devices"
    for cgroup in cgroups:
        if "devices" in cgroup.controllers:
            try:
                wanted = v1_devices(rules)
            except ValueError as error:
                raise UnsupportedFieldError(None, json_path, "cgroup v1 has no exceptions from exceptions: "
                                            f"{error.args[0]} takes back a part of an earlier rule") from error
            before = _read(f"{cgroup.path}/devices.list") or ""
            return [WriteFile(json_path, f"{cgroup.path}/{file}".encode(), tuple(text.encode() for text in texts))
                    for file, texts in v1_device_changes(before, wanted)]
    program = device_program(rules)
    return [AttachDeviceProgram(json_path, cgroup.path.encode(), program, len(program), 1) for cgroup in cgroups if cgroup.is_v2]


def _check_usage(cgroup: str, memory: Memory) -> None:
    """What v1 refuses by itself; v2 would kill."""
    used = int(_read(f"{cgroup}/memory.current") or 0)
    swapped = int(_read(f"{cgroup}/memory.swap.current") or 0)
    for name, file, limit, usage in (("limit", "memory.max", memory.limit, used), ("swap", "memory.swap.max", memory.swap, used + swapped)):
        if limit is not None and 0 < limit <= usage:
            raise SetupError("update", f"{cgroup}/{file}", errno.EBUSY, f"{PATH}.memory.{name}",
                             f"{usage} bytes are in use, which is not below {limit}")


def _read(path: str) -> str | None:
    """None for a file that is not there or cannot be read."""
    try:
        return files.read(path).decode()
    except OSError:
        return None


def _read_of(cgroups: tuple[Cgroup, ...], controller: str, file: str) -> str | None:
    path = next((cgroup.path for cgroup in cgroups if controller in cgroup.controllers or (cgroup.is_v2 and len(cgroups) == 1)), None)
    return None if path is None else _read(f"{path}/{file}")


def _in_order(writes: Sequence[WriteFile]) -> list[WriteFile]:
    return in_order(writes, lambda write: _read(write.path.decode()))


def _write_all(writes: Sequence[WriteFile]) -> list[tuple[WriteFile, str]]:
    """Those of files that were there, with what was in them, in the order of writing. Raises SetupError; then the files are as they
    were."""
    found = [(write, before) for write in writes if (before := _read(write.path.decode())) is not None]
    try:
        _run(writes)
    except BaseException:
        _restore(found)
        raise
    return found


def _run(operations: Sequence[Operation]) -> None:
    failed = run_host_operations(operations) if operations else None
    if failed is not None:
        operation = operations[failed.index]
        raise SetupError("update", operation.subject(), failed.errno, operation.json_path, failed.detail)


def _restore(previous: Sequence[tuple[WriteFile, str]]) -> None:
    """Also of files that were not reached: they are as they were."""
    for write, before in reversed(previous):
        for text in taking_back(write, before):
            # what the kernel does not take is another reason than that for which all is taken back
            with contextlib.suppress(OSError), open(write.path, "wb", buffering=0) as file:
                file.write(text)
