"""Operations of the host alone, without a process."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pyruntime._native import ffi, lib
from pyruntime.native.encoder import encode
from pyruntime.plan.operations import Operation, Plan


class Failed(msgspec.Struct, frozen=True):
    """Which of them failed, and why; those before it are done. errno is 0 where the kernel has taken it and it does not hold."""

    index: int
    errno: int
    detail: str


def run_host_operations(operations: Sequence[Operation]) -> Failed | None:
    """Do them, one after the other until one fails. None: all are done."""
    data = bytearray(encode(Plan(tuple(operations), (), (), 0, None, 0, 0)).data)
    result = ffi.new("struct spawn_result *")
    error = -int(lib.run_host_plan(ffi.from_buffer(data), len(data), result))
    if not error:
        return None
    assert result.operation >= 0, "the plan is not one of the host alone"
    detail = bytes(ffi.string(result.detail)).decode(errors="backslashreplace")
    return Failed(int(result.operation), 0 if error == lib.NOT_HELD else error, detail)
