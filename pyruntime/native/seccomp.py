"""Programs of filters of system calls, made by libseccomp."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from pyruntime._native import ffi, lib
from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.plan.seccomp import JSON_PATH, Condition, FilterSource, is_versioned, unknown_call_guard

INSTRUCTION_BYTES = 8
INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS
_PROGRAM_BYTES_MAX = 1 << 20
_UNKNOWN = -1  # __NR_SCMP_ERROR


class Compiled(NamedTuple):
    """A program, and the names that libseccomp does not know."""

    program: bytes
    unknown: tuple[str, ...]


class _Rule(NamedTuple):
    entry: int
    name: str
    action: int
    number: int
    conditions: tuple[Condition, ...]


def library_version() -> str:
    """Of the libseccomp that is loaded: `2.5.4`."""
    version = int(lib.filter_library_version())
    return f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}"


def machine() -> int:
    """libseccomp's token of this machine's architecture."""
    return int(lib.filter_architecture(ffi.NULL))


def compile_filter(source: FilterSource) -> Compiled:
    """Raises InvalidBundleError and UnsupportedFieldError for what no filter can be made of here."""
    architectures = _architectures(source)
    names = tuple(dict.fromkeys(name for rule in source.rules for name in rule.names))
    numbers = {token: dict(zip(names, _resolve(token, names), strict=True)) for token in architectures}
    program = _build(source, architectures, list(_rules(source, numbers)))
    if source.refuses_unknown:
        newest = {token: max((n for n in by_name.values() if is_versioned(token, n)), default=-1) for token, by_name in numbers.items()}
        program = unknown_call_guard({token: number for token, number in newest.items() if number >= 0}) + program
    if len(program) > INSTRUCTIONS_MAX * INSTRUCTION_BYTES:
        raise _too_large(len(program) // INSTRUCTION_BYTES)
    of_machine = numbers[architectures[0]]
    return Compiled(program, tuple(sorted(name for name in names if of_machine[name] == _UNKNOWN)))


def _too_large(instructions: int) -> InvalidBundleError:
    return InvalidBundleError(None, f"{JSON_PATH}.syscalls", f"become a filter of {instructions} instructions, and the kernel takes "
                              f"{INSTRUCTIONS_MAX} at most")


def can_filter(architecture: str) -> bool:
    """Whether a filter can be for that architecture (`SCMP_ARCH_...`) here, besides this machine's."""
    token = int(lib.filter_architecture(architecture.removeprefix("SCMP_ARCH_").lower().encode()))
    return bool(token) and lib.check_architecture(token) == 0


def _architectures(source: FilterSource) -> list[int]:
    """This machine's, which a filter always has, and those of the profile."""
    tokens = [machine()]
    for i, name in enumerate(source.architectures):
        token = int(lib.filter_architecture(name.encode()))
        error = -lib.check_architecture(token) if token else 0
        if not token or error:
            why = (f"is not known to libseccomp {library_version()}" if not token else "has another byte order than this machine"
                   if error == errno.EDOM else f"is refused by libseccomp: {os.strerror(error)}")
            raise UnsupportedFieldError(None, f"{JSON_PATH}.architectures[{i}]", f"'SCMP_ARCH_{name.upper()}' {why}")
        if token not in tokens:
            tokens.append(token)
    return tokens


def _resolve(token: int, names: tuple[str, ...]) -> list[int]:
    numbers = ffi.new("int32_t[]", len(names))
    lib.resolve_calls(token, "".join(f"{name}\0" for name in names).encode(), len(names), numbers)
    return list(numbers)


def _rules(source: FilterSource, numbers: dict[int, dict[str, int]]) -> Iterator[_Rule]:
    """What is not the default anyway, which libseccomp refuses, of calls that one of the architectures has."""
    of_machine = next(iter(numbers.values()))
    for rule in source.rules:
        if rule.action == source.default_action:
            continue
        for name in rule.names:
            # 32-bit x86 has some behind one number, which libseccomp looks into: they are below -1 there
            if of_machine[name] != _UNKNOWN and any(by_name[name] >= 0 for by_name in numbers.values()):
                for conditions in rule.sets:
                    yield _Rule(rule.entry, name, rule.action, of_machine[name], conditions)


def _build(source: FilterSource, architectures: list[int], rules: list[_Rule]) -> bytes:
    native = ffi.new("struct filter_rule[]", len(rules))
    comparisons = ffi.new("struct filter_comparison[]", [
        (condition.argument, condition.operator, condition.value, condition.value_two) for rule in rules for condition in rule.conditions])
    first = 0
    for at, rule in enumerate(rules):
        native[at] = (rule.action, rule.number, first, len(rule.conditions))
        first += len(rule.conditions)
    program, failed = ffi.new("char[]", _PROGRAM_BYTES_MAX), ffi.new("int *")
    length = lib.build_filter(source.default_action, architectures, len(architectures), native, len(rules), comparisons, program,
                              _PROGRAM_BYTES_MAX, failed)
    if length >= 0:
        return bytes(ffi.buffer(program, length))
    if length == -errno.E2BIG:
        raise _too_large(_PROGRAM_BYTES_MAX // INSTRUCTION_BYTES)
    if failed[0] < 0:
        raise SetupError("make the filter", None, -length, JSON_PATH)
    rule = rules[failed[0]]
    path = f"{JSON_PATH}.syscalls[{rule.entry}]"
    if length == -errno.EEXIST:
        raise InvalidBundleError(None, path, f"has another action for {rule.name!r} than an earlier entry with the same conditions")
    raise UnsupportedFieldError(None, path, f"the rule for {rule.name!r} is refused by libseccomp: {os.strerror(-length)}")
