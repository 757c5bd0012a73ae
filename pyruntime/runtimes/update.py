"""New resources for a container that runs."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pyruntime.cgroups import Cgroup, systemd
from pyruntime.cgroups.systemd import Property
from pyruntime.errors import SetupError
from pyruntime.host import Host, read_drivers
from pyruntime.native import files
from pyruntime.native.host_plan import run_host_operations
from pyruntime.notices import log
from pyruntime.plan.device_rules import Rule, V1Devices, device_program, device_rules
from pyruntime.plan.operations import AttachDeviceProgram, Operation, WriteFile
from pyruntime.plan.resources import limits_memory, limits_pids, resource_writes, v1_device_list
from pyruntime.plan.unit_properties import device_properties, resource_properties
from pyruntime.plan.update import completed, forgotten_with, in_order, taking_back, v1_device_changes
from pyruntime.plan.warnings import device_rule_warnings
from pyruntime.spec import Memory, Resources, decode_resources
from pyruntime.state import ContainerRecord

PATH, DEVICES = "$", "$.devices"


def update(record: ContainerRecord, resources: Resources | Mapping[str, Any] | bytes, host: Host) -> ContainerRecord:
    """Change what is given, and nothing else: none of it where one part fails. The record as it is then. Raises InvalidBundleError,
    SetupError."""
    cgroups = record.cgroups
    is_unified = all(cgroup.is_v2 for cgroup in cgroups)
    decoded = completed(decode_resources(resources), is_unified, lambda controller, file: _read_of(cgroups, controller, file))
    for warning in device_rule_warnings(decoded, "resources"):
        log.warning("%s", warning)
    if not cgroups:
        from pyruntime.plan.without_cgroups import refuse_limits  # few have none

        refuse_limits(decoded, host.page_size, PATH, "the container has no cgroup")
    devices = _Devices(cgroups, device_rules(decoded.devices)) if decoded.devices else None
    writes = list(resource_writes(cgroups, decoded, host.page_size, PATH))
    properties = _properties(decoded, is_unified, devices) if record.unit is not None else []
    if is_unified and decoded.memory is not None and decoded.memory.check_before_update:
        _check_usage(cgroups[0].path, decoded.memory)
    previous = _write_all(_in_order(writes))
    try:
        # systemd writes the files too, rounded: so first this, and what was asked for again
        if record.unit is not None and properties:
            systemd.set_unit_properties(record.unit, properties)
            _write_all(_in_order(writes))
        if devices is not None:
            devices.set()
    except BaseException:
        _restore(previous)
        raise
    return msgspec.structs.replace(record, limits_pids=record.limits_pids or limits_pids(decoded),
                                   limits_memory=record.limits_memory or limits_memory(decoded))


def _properties(resources: Resources, is_unified: bool, devices: _Devices | None) -> list[Property]:
    found = list(resource_properties(resources, is_unified))
    if devices is not None:
        # a list that is given is added to the one that there is
        found += [("DeviceAllow", ("a(ss)", [])), *device_properties(devices.rules, read_drivers())]
    return found


class _Devices:
    """Another list in place of the one that there is. Raises UnsupportedFieldError for what v1 cannot have."""

    def __init__(self, cgroups: tuple[Cgroup, ...], rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._v1 = next((cgroup.path for cgroup in cgroups if "devices" in cgroup.controllers), None)
        self._v2 = [cgroup.path for cgroup in cgroups if cgroup.is_v2]
        self._wanted = v1_device_list(rules, DEVICES) if self._v1 is not None else None

    def set(self) -> None:
        """All of it or nothing. Raises SetupError."""
        if self._v1 is None or self._wanted is None:
            program = device_program(self.rules)
            _run([AttachDeviceProgram(DEVICES, path.encode(), program, len(program), 1) for path in self._v2])
            return
        before = self._v1_list()
        try:
            _run(self._v1_changes(self._wanted))
        except SetupError:
            # the exceptions from everything are nowhere to be read
            if not before.startswith("a"):
                run_host_operations(self._v1_changes(V1Devices(False, tuple(before.splitlines()))))
            raise

    def _v1_list(self) -> str:
        return _read(f"{self._v1}/devices.list") or ""

    def _v1_changes(self, wanted: V1Devices) -> list[WriteFile]:
        return [WriteFile(DEVICES, f"{self._v1}/{file}".encode(), tuple(text.encode() for text in texts))
                for file, texts in v1_device_changes(self._v1_list(), wanted)]


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
    found: list[tuple[WriteFile, str]] = []
    for write in writes:
        directory, _, name = write.path.rpartition(b"/")
        beside = (WriteFile("", directory + b"/" + other.encode(), ()) for other in forgotten_with(name.decode()))
        found += [(each, before) for each in (*beside, write) if (before := _read(each.path.decode())) is not None]
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
