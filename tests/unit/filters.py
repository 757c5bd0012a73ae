"""Filters of system calls in tests: made of a `linux.seccomp` in config.json's form, and evaluated as the kernel does."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from spec_examples import load, put, small

from pyruntime._native import ffi, lib
from pyruntime.native.seccomp import Compiled, compile_filter, machine
from pyruntime.plan.seccomp import filter_source
from pyruntime.spec import Seccomp

ALLOW, LOG, TRACE, NOTIFY, TRAP, KILL_THREAD, KILL_PROCESS = (
    0x7FFF0000, 0x7FFC0000, 0x7FF00000, 0x7FC00000, 0x00030000, 0x00000000, 0x80000000)
ENOSYS = 0x00050000 | 38
EPERM = 0x00050000 | 1
# as the kernel names them (linux/audit.h); x32 is x86-64 with a bit in the number
X86_64, X86, X32_BIT = 0xC000003E, 0x40000003, 0x40000000


def errno_action(number: int) -> int:
    return 0x00050000 | number


def seccomp_of(**profile: Any) -> Seccomp:
    """A checked one."""
    found = load(put(small(), ("linux", "seccomp"), json.loads(json.dumps(profile)))).linux.seccomp
    assert found is not None
    return found


def compiled(default: str = "SCMP_ACT_ALLOW", *rules: dict[str, Any], **profile: Any) -> Compiled:
    return compile_filter(filter_source(seccomp_of(defaultAction=default, syscalls=list(rules), **profile)))


def rule(names: str, action: str = "SCMP_ACT_ALLOW", *args: tuple[int, str, int] | tuple[int, str, int, int], **more: Any) -> dict[str, Any]:
    """An entry of `syscalls`; args are index, operator, value, valueTwo."""
    found: dict[str, Any] = {"names": names.split(), "action": action, **more}
    if args:
        found["args"] = [{"index": index, "op": f"SCMP_CMP_{operator}", "value": values[0], "valueTwo": values[1] if values[1:] else 0}
                         for index, operator, *values in args]
    return found


def number(name: str, architecture: str | None = None) -> int:
    """Of a system call; on this machine if no architecture is named."""
    token = machine() if architecture is None else int(lib.filter_architecture(architecture.encode()))
    found = ffi.new("int32_t[]", 1)
    lib.resolve_calls(token, name.encode() + b"\0", 1, found)
    return int(found[0])


def evaluate(program: bytes, call: str | int, *args: int, architecture: int | None = None) -> int:
    """What the filter returns for a call."""
    number_ = call if isinstance(call, int) else number(call)
    data = struct.pack("=IIQ6Q", number_ & 0xFFFFFFFF, machine() if architecture is None else architecture, 0,
                       *(arg & 0xFFFFFFFFFFFFFFFF for arg in (*args, *(0,) * (6 - len(args)))))
    return run(program, data)


def run(program: bytes, data: bytes) -> int:
    """Classic BPF over a struct seccomp_data: what libseccomp and the guard use of it."""
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        opcode, if_true, if_false, operand = code[at]
        at += 1
        if opcode == 0x20:
            assert operand % 4 == 0
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif opcode == 0x54:
            accumulator &= operand
        elif opcode == 0x06:
            return int(operand)
        elif opcode == 0x05:
            at += operand
        else:
            holds = {0x15: accumulator == operand, 0x25: accumulator > operand, 0x35: accumulator >= operand,
                     0x45: bool(accumulator & operand)}[opcode]
            at += if_true if holds else if_false


def is_loadable(program: bytes) -> bool:
    """As the kernel checks a program before it takes it: jumps lead forwards, into it, and the last instruction returns."""
    code: Sequence[tuple[int, int, int, int]] = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    for at, (opcode, if_true, if_false, operand) in enumerate(code):
        reached = [operand] if opcode == 0x05 else [if_true, if_false] if opcode & 7 == 5 else []
        if any(at + 1 + jump >= len(code) for jump in reached):
            return False
    return 0 < len(code) <= 4096 and code[-1][0] == 0x06
