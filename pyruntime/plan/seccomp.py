"""What a `linux.seccomp` means as rules, flags and instructions; libseccomp makes the program of it (native/seccomp.py)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping

import msgspec

from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import flags
from pyruntime.spec import Seccomp, SeccompAction, SeccompFlag, SeccompOperator, SyscallArgument, SyscallRule

JSON_PATH = "$.linux.seccomp"
EPERM, ENOSYS = 1, 38
UINT64 = 2**64 - 1

# SECCOMP_RET_... of linux/seccomp.h
_ERRNO = 0x00050000
_ERRNO_MAX = 4094  # of libseccomp, below the kernel's MAX_ERRNO
_ACTIONS = {
    SeccompAction.KILL: 0x00000000,
    SeccompAction.KILL_THREAD: 0x00000000,
    SeccompAction.KILL_PROCESS: 0x80000000,
    SeccompAction.TRAP: 0x00030000,
    SeccompAction.ERRNO: _ERRNO,
    SeccompAction.NOTIFY: 0x7FC00000,
    SeccompAction.TRACE: 0x7FF00000,
    SeccompAction.LOG: 0x7FFC0000,
    SeccompAction.ALLOW: 0x7FFF0000,
}
_FLAGS = {
    # this is of other threads, of which the init has none
    SeccompFlag.TSYNC: 0,
    SeccompFlag.LOG: flags.SECCOMP_FILTER_FLAG_LOG,
    SeccompFlag.SPEC_ALLOW: flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SeccompFlag.WAIT_KILLABLE_RECV: flags.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
WAIT_KILLABLE_KERNEL = (5, 19)
# Where calls that are newer than the profile are not told to be unknown: what they do is allowed, or somebody is asked who may know more.
_FOR_UNKNOWN = (SeccompAction.ALLOW, SeccompAction.LOG, SeccompAction.TRACE, SeccompAction.NOTIFY)


_OPERATORS = {operator: number for number, operator in enumerate((
    SeccompOperator.NE, SeccompOperator.LT, SeccompOperator.LE, SeccompOperator.EQ, SeccompOperator.GE, SeccompOperator.GT,
    SeccompOperator.MASKED_EQ), 1)}  # enum scmp_compare of libseccomp


class Condition(msgspec.Struct, frozen=True):
    """On one argument; `operator` as libseccomp numbers it."""

    argument: int
    operator: int
    value: int
    value_two: int


class FilterRule(msgspec.Struct, frozen=True):
    """The action of each call if all conditions of one of the sets hold; `entry` is its number in the profile."""

    entry: int
    action: int
    names: tuple[str, ...]
    sets: tuple[tuple[Condition, ...], ...]


class FilterSource(msgspec.Struct, frozen=True):
    """What a filter's program is made from.

    architectures    as libseccomp names them
    refuses_unknown  whether calls that are newer than those that are named fail with ENOSYS
    """

    default_action: int
    architectures: tuple[str, ...]
    rules: tuple[FilterRule, ...]
    refuses_unknown: bool


class Filter(msgspec.Struct, frozen=True):
    """What is installed: struct sock_filter of linux/filter.h, flags of seccomp(2), whether somebody may be notified of sendmsg."""

    program: bytes
    flags: int
    notifies_of_sendmsg: bool = False


def action_of(action: SeccompAction, errno: int | None, json_path: str) -> int:
    """As the kernel knows it. Without an errno it is EPERM, also the number that a tracer is told. Raises UnsupportedFieldError."""
    if action is SeccompAction.ERRNO and errno is not None and errno > _ERRNO_MAX:
        raise UnsupportedFieldError(None, json_path, f"is {errno}, and libseccomp takes {_ERRNO_MAX} at most")
    if action in (SeccompAction.ERRNO, SeccompAction.TRACE):
        return _ACTIONS[action] | (EPERM if errno is None else errno)
    return _ACTIONS[action]


def notifies(seccomp: Seccomp) -> bool:
    """Whether there is a listener, which has to be told of the filter."""
    return seccomp.default_action is SeccompAction.NOTIFY or any(rule.action is SeccompAction.NOTIFY for rule in seccomp.syscalls)


def notifies_of(seccomp: Seccomp, name: str) -> bool:
    """Whether there may be a call of that name that somebody is notified of."""
    actions = [rule.action for rule in seccomp.syscalls if name in rule.names]
    has_conditions = all(rule.args for rule in seccomp.syscalls if name in rule.names)
    return SeccompAction.NOTIFY in actions or (seccomp.default_action is SeccompAction.NOTIFY and has_conditions)


def filter_flags(seccomp: Seccomp, host: Host) -> int:
    """Of seccomp(2). Absent ones are SPEC_ALLOW, as with runc and crun: a filter is not there against speculation, and since Linux 5.16
    it has no bearing on it unless asked for on the kernel's command line. Raises UnsupportedFieldError."""
    bits = flags.SECCOMP_FILTER_FLAG_NEW_LISTENER if notifies(seccomp) else 0
    for i, flag in enumerate((SeccompFlag.SPEC_ALLOW,) if seccomp.flags is None else seccomp.flags):
        if flag is SeccompFlag.WAIT_KILLABLE_RECV and host.kernel < WAIT_KILLABLE_KERNEL:
            raise UnsupportedFieldError(None, f"{JSON_PATH}.flags[{i}]", f"{flag} needs Linux 5.19")
        bits |= _FLAGS[flag]
    return bits


def filter_source(seccomp: Seccomp) -> FilterSource:
    """Raises UnsupportedFieldError."""
    default = action_of(seccomp.default_action, seccomp.default_errno_ret, f"{JSON_PATH}.defaultErrnoRet")
    rules = tuple(_filter_rule(rule, i, f"{JSON_PATH}.syscalls[{i}]") for i, rule in enumerate(seccomp.syscalls))
    architectures = tuple(architecture.value.removeprefix("SCMP_ARCH_").lower() for architecture in seccomp.architectures)
    return FilterSource(default, architectures, rules, seccomp.default_action not in _FOR_UNKNOWN and default != _ERRNO | ENOSYS)


def _filter_rule(rule: SyscallRule, entry: int, json_path: str) -> FilterRule:
    return FilterRule(entry, action_of(rule.action, rule.errno_ret, f"{json_path}.errnoRet"), rule.names, alternatives(rule, json_path))


def alternatives(rule: SyscallRule, json_path: str) -> tuple[tuple[Condition, ...], ...]:
    """The conditions of a rule as sets of which one has to hold, each with one condition for an argument at most, since libseccomp takes no
    more. All of a rule's conditions hold together; where those on one argument cannot, as with two values, any of them is enough: that is
    what runc and crun make of every such rule. Raises UnsupportedFieldError where they can, as with the ends of a range, which would become
    a rule for everything."""
    by_index: dict[int, list[SyscallArgument]] = {}
    for i, argument in enumerate(rule.args):
        earlier = by_index.setdefault(argument.index, [])
        if argument in earlier:
            continue
        if not all(_exclude(argument, other) for other in earlier):
            raise UnsupportedFieldError(None, f"{json_path}.args[{i}]", f"is a further condition on argument {argument.index} that can hold "
                                        "together with an earlier one, which libseccomp has no rules for")
        earlier.append(argument)
    return tuple(itertools.product(*([_condition(argument) for argument in arguments] for arguments in by_index.values())))


def _condition(argument: SyscallArgument) -> Condition:
    return Condition(argument.index, _OPERATORS[argument.op], argument.value, argument.value_two)


def _exclude(one: SyscallArgument, other: SyscallArgument) -> bool:
    """Whether no value fulfils both."""
    bits, other_bits = _fixed_bits(one), _fixed_bits(other)
    if bits is not None and other_bits is not None:
        common = bits[0] & other_bits[0]
        return bits[1] & common != other_bits[1] & common
    range_, other_range = _range(one), _range(other)
    if range_ is None or other_range is None:
        return False
    return max(range_[0], other_range[0]) > min(range_[1], other_range[1])


def _fixed_bits(argument: SyscallArgument) -> tuple[int, int] | None:
    """Mask and datum of an equality."""
    if argument.op is SeccompOperator.EQ:
        return UINT64, argument.value
    if argument.op is SeccompOperator.MASKED_EQ:
        return argument.value, argument.value_two & argument.value
    return None


def _range(argument: SyscallArgument) -> tuple[int, int] | None:
    value = argument.value
    return {SeccompOperator.EQ: (value, value), SeccompOperator.LT: (0, value - 1), SeccompOperator.LE: (0, value),
            SeccompOperator.GE: (value, UINT64), SeccompOperator.GT: (value + 1, UINT64)}.get(argument.op)


# struct seccomp_data, and struct sock_filter of linux/filter.h
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_OR_EQUAL, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
# tokens of libseccomp and of the kernel (linux/audit.h) where numbers are special
AUDIT_ARCH_X86_64, SCMP_ARCH_X32, AUDIT_ARCH_ARM = 0xC000003E, 0x4000003E, 0x40000028
X32_BIT = 0x40000000
ARM_PRIVATE_CALLS = 0x0F0000


def unknown_call_guard(newest: Mapping[int, int]) -> bytes:
    """Instructions in front of a program: a call beyond the newest one that the profile names fails with ENOSYS, from which programs go on
    with an older call, and not with what its caller takes for an answer. newest: its number by the architecture's token; the kernel gives
    numbers out in their order."""
    code = bytearray()
    for architecture, ranges in _ranges(newest).items():
        body = _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER_AT)
        for first, end in ranges:
            # beyond the range, or in front of it: go on behind the return
            body += _INSTRUCTION.pack(_JUMP_GREATER_OR_EQUAL, 0, 2, first)
            body += _INSTRUCTION.pack(_JUMP_GREATER_OR_EQUAL, 1, 0, end)
            body += _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | ENOSYS)
        code += _INSTRUCTION.pack(_LOAD, 0, 0, _ARCHITECTURE_AT)
        code += _INSTRUCTION.pack(_JUMP_EQUAL, 0, len(body) // _INSTRUCTION.size, architecture)
        code += body
    return bytes(code)


def _ranges(newest: Mapping[int, int]) -> dict[int, list[tuple[int, int]]]:
    """What no call of the profile is in, as first and end, by the kernel's architecture."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for token, number in newest.items():
        if token == SCMP_ARCH_X32:
            # it is x86-64 with numbers of its own
            ranges.setdefault(AUDIT_ARCH_X86_64, []).append((number + 1, 2 * X32_BIT))
        else:
            end = {AUDIT_ARCH_X86_64: X32_BIT, AUDIT_ARCH_ARM: ARM_PRIVATE_CALLS}.get(token, 2**31)
            ranges.setdefault(token, []).append((number + 1, end))
    return ranges


def is_versioned(token: int, number: int) -> bool:
    """Whether a call's number tells how new it is."""
    return number >= 0 and not (token == AUDIT_ARCH_ARM and number >= ARM_PRIVATE_CALLS)
