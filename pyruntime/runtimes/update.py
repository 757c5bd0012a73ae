"""New resources for a container that runs."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Mapping
from typing import Any

from pyruntime.cgroups import systemd
from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.native import files
from pyruntime.plan.resources import PATH, resource_writes
from pyruntime.plan.unit_properties import resource_properties
from pyruntime.spec import Resources, decode_resources
from pyruntime.state import ContainerRecord

# (JSON path, file, value)
Write = tuple[str, str, str]


def update(record: ContainerRecord, resources: Resources | Mapping[str, Any] | bytes) -> Resources:
    """Change what is given, and nothing else: none of it where one part fails. Raises InvalidBundleError, SetupError."""
    decoded = decode_resources(resources)
    if decoded.devices:
        raise UnsupportedFieldError(None, "$.devices", "cannot be changed while the container runs in this version")
    is_unified = all(cgroup.is_v2 for cgroup in record.cgroups)
    try:
        writes = list(resource_writes(record.cgroups, decoded))
        properties = list(resource_properties(decoded, is_unified)) if record.unit is not None else []
    except InvalidBundleError as error:
        raise type(error)(error.file, _from_resources(error.json_path), error.reason) from error
    previous = _write_all(_in_order(writes))
    # systemd writes the files too, rounded: so first this, and what was asked for again
    if record.unit is not None and properties:
        try:
            systemd.set_unit_properties(record.unit, properties)
        except BaseException:
            _restore(previous)
            raise
        _write_all(_in_order(writes))
    return decoded


def _from_resources(json_path: str | None) -> str | None:
    return json_path.replace(PATH, "$", 1) if json_path else json_path


def _in_order(writes: list[Write]) -> list[Write]:
    """On v1 the limit with swap may never be below the one without: when both grow, it is the first."""
    by_name = {file.rpartition("/")[2]: i for i, (_, file, _) in enumerate(writes)}
    limit, with_swap = by_name.get("memory.limit_in_bytes"), by_name.get("memory.memsw.limit_in_bytes")
    if limit is None or with_swap is None:
        return writes
    new, current = int(writes[limit][2]), int(files.read(writes[with_swap][1]))
    if new < 0 or new > current:
        writes.insert(limit, writes.pop(with_swap))
    return writes


def _write_all(writes: Iterable[Write]) -> list[tuple[str, bytes]]:
    """The files with what was in them, in the order of writing. Raises SetupError; then the files are as they were."""
    previous: list[tuple[str, bytes]] = []
    for json_path, file, value in writes:
        try:
            # of a flat keyed file, a line is written and all lines are read
            was = files.read(file)
            _write(file, value.encode())
        except OSError as error:
            _restore(previous)
            raise SetupError("update", file, error.errno or errno.EIO, _from_resources(json_path)) from error
        previous.append((file, was))
    return previous


def _restore(previous: list[tuple[str, bytes]]) -> None:
    for file, was in reversed(previous):
        for line in was.splitlines():
            with contextlib.suppress(OSError):
                _write(file, line)


def _write(path: str, value: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(value)
