"""Which devices a container may use: rules, their v1 form, and the eBPF program that they are on v2."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from pyruntime.spec import DeviceCgroupRule

_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_...
_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_...


class Rule(msgspec.Struct, frozen=True):
    """type a, b or c; None is every number; access of r, w, m."""

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: str


# What every container may use (config-linux.md, "Default Devices"), and making any node, which is no use of it.
DEFAULT_RULES = (
    Rule(True, "c", None, None, "m"), Rule(True, "b", None, None, "m"),
    Rule(True, "c", 1, 3, "rwm"), Rule(True, "c", 1, 5, "rwm"), Rule(True, "c", 1, 7, "rwm"),
    Rule(True, "c", 1, 8, "rwm"), Rule(True, "c", 1, 9, "rwm"), Rule(True, "c", 5, 0, "rwm"),
    Rule(True, "c", 5, 1, "rwm"), Rule(True, "c", 5, 2, "rwm"), Rule(True, "c", 136, None, "rwm"),
)


def device_rules(configured: Sequence[DeviceCgroupRule] | None) -> tuple[Rule, ...]:
    """The configured rules in order, then the defaults. A later one wins; before the first everything is denied."""
    rules = []
    for rule in configured or ():
        major = None if rule.major is None or rule.major < 0 else rule.major
        minor = None if rule.minor is None or rule.minor < 0 else rule.minor
        rules.append(Rule(rule.allow, rule.type or "a", major, minor, rule.access or "rwm"))
    # a leading "deny everything" is what is true already
    while rules and not rules[0].allow and rules[0].type == "a" and rules[0].major is None:
        del rules[0]
    return (*rules, *DEFAULT_RULES)


def v1_rule(rule: Rule) -> str:
    """A line for devices.allow or devices.deny. `a` there is everything, whatever follows it."""
    if rule.type == "a" and rule.major is None and rule.minor is None:
        return "a"
    major = "*" if rule.major is None else str(rule.major)
    minor = "*" if rule.minor is None else str(rule.minor)
    return f"{rule.type} {major}:{minor} {rule.access}"


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


_LOAD_WORD, _MOVE, _MOVE_NUMBER, _AND, _RSH, _EXIT = 0x61, 0xBF, 0xB7, 0x57, 0x77, 0x95
_JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER, _JUMP_EQUAL = 0x55, 0x5D, 0x15


def device_program(rules: Sequence[Rule]) -> bytes:
    """eBPF instructions of type BPF_PROG_TYPE_CGROUP_DEVICE: 1 allows, 0 denies; the last rule that matches decides.

    struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor, 32 bits each.
    """
    program = [
        _instruction(_LOAD_WORD, 2, 1, 0), _instruction(_AND, 2, immediate=0xFFFF),  # r2: type
        _instruction(_LOAD_WORD, 3, 1, 0), _instruction(_RSH, 3, immediate=16),  # r3: access
        _instruction(_LOAD_WORD, 4, 1, 4), _instruction(_LOAD_WORD, 5, 1, 8),  # r4: major, r5: minor
    ]
    for rule in reversed(rules):
        tests: list[bytes] = []
        if rule.type != "a":
            tests.append(_instruction(_JUMP_NOT_EQUAL, 2, immediate=_TYPES[rule.type]))
        access = sum(_ACCESS[letter] for letter in set(rule.access))
        if access != 7:
            # what is asked for must lie within an allowance; a denial holds if it touches it
            tests.append(_instruction(_MOVE, 1, 3))
            tests.append(_instruction(_AND, 1, immediate=access))
            tests.append(_instruction(_JUMP_NOT_EQUAL_REGISTER, 1, 3) if rule.allow
                         else _instruction(_JUMP_EQUAL, 1, immediate=0))
        if rule.major is not None:
            tests.append(_instruction(_JUMP_NOT_EQUAL, 4, immediate=rule.major))
        if rule.minor is not None:
            tests.append(_instruction(_JUMP_NOT_EQUAL, 5, immediate=rule.minor))
        verdict = [_instruction(_MOVE_NUMBER, 0, immediate=int(rule.allow)), _instruction(_EXIT)]
        block = [*tests, *verdict]
        for i, instruction in enumerate(block):
            if instruction[0] in (_JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER, _JUMP_EQUAL):
                block[i] = instruction[:2] + struct.pack("=h", len(block) - i - 1) + instruction[4:]
        program += block
    program += [_instruction(_MOVE_NUMBER, 0, immediate=0), _instruction(_EXIT)]
    return b"".join(program)
