"""Which devices a container may use: rules, their v1 form, and the eBPF program that they are on v2."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from pyruntime.spec import DeviceCgroupRule

_ACCESS = {"r": 2, "w": 4, "m": 1}  # BPF_DEVCG_ACC_...
_ALL_ACCESS = 7
_LARGEST_MAJOR, _LARGEST_MINOR = 2**12 - 1, 2**20 - 1
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


def has_unknown_access(rule: DeviceCgroupRule) -> bool:
    """Only of rules that deny: the loader lets no others pass."""
    return bool((rule.access or "").strip("rwm"))


def device_rules(configured: Sequence[DeviceCgroupRule] | None) -> tuple[Rule, ...]:
    """The configured rules in order, then the defaults. A later one wins; before the first everything is denied."""
    rules = []
    for rule in configured or ():
        major = None if rule.major is None or rule.major < 0 else rule.major
        minor = None if rule.minor is None or rule.minor < 0 else rule.minor
        if (major or 0) > _LARGEST_MAJOR or (minor or 0) > _LARGEST_MINOR:
            continue  # no device has it, and v1 would take 2**32-1 for every number
        access = "rwm" if has_unknown_access(rule) else rule.access
        rules.append(Rule(rule.allow, rule.type or "a", major, minor, access or "rwm"))
    # denials at the beginning are what is true already
    while rules and not rules[0].allow:
        del rules[0]
    return (*rules, *DEFAULT_RULES)


class V1Devices(msgspec.Struct, frozen=True):
    """What a v1 cgroup can hold: one verdict for everything, and lines of exceptions from it."""

    allows: bool
    exceptions: tuple[str, ...]


class _Verdicts:
    """The verdicts on one type of device: one for all, and exceptions by (major, minor) as bits of access."""

    def __init__(self) -> None:
        self.allows = False
        self.exceptions: dict[tuple[int | None, int | None], int] = {}

    def apply(self, rule: Rule) -> None:
        """Raises ValueError for an exception from an exception."""
        numbers, access = (rule.major, rule.minor), _access_bits(rule)
        if numbers == (None, None) and access == _ALL_ACCESS:
            self.allows, self.exceptions = rule.allow, {}
        elif rule.allow != self.allows:
            self.exceptions[numbers] = self.exceptions.get(numbers, 0) | access
        else:
            for other, bits in list(self.exceptions.items()):
                if not bits & access or not all(None in pair or pair[0] == pair[1] for pair in zip(numbers, other, strict=True)):
                    continue
                if not _covers(numbers, other):
                    raise ValueError
                self.exceptions[other] = bits & ~access

    def turn(self) -> bool:
        """Say the same with the other verdict for all; False if that is not possible."""
        if set(self.exceptions) - {(None, None)}:
            return False
        bits = self.exceptions.get((None, None), 0)
        self.allows, self.exceptions = not self.allows, {(None, None): _ALL_ACCESS & ~bits}
        return True

    def lines(self, type: str) -> Iterator[str]:
        for numbers, bits in self.exceptions.items():
            # one exception has to allow all that an open asks for
            for other, more in self.exceptions.items():
                if not self.allows and _covers(other, numbers):
                    bits |= more
            if bits:
                major, minor = ("*" if number is None else str(number) for number in numbers)
                yield f"{type} {major}:{minor} {''.join(letter for letter, bit in _ACCESS.items() if bits & bit)}"


def v1_devices(rules: Sequence[Rule]) -> V1Devices:
    """The same rules as a v1 cgroup has them (security/device_cgroup.c of Linux).

    A rule of type `a` is one for c and one for b: in devices.allow and devices.deny `a` is everything, whatever follows it.
    An exception is removed there by its own numbers alone, so that rules cannot simply be written one after the other.
    An open for reading and writing that two rules allow together is denied if neither has the numbers of the other.
    Raises ValueError with the rule that cannot be had: the kernel knows no exception from an exception.
    """
    verdicts = {"c": _Verdicts(), "b": _Verdicts()}
    for rule in rules:
        for type in ("c", "b") if rule.type == "a" else (rule.type,):
            try:
                verdicts[type].apply(rule)
            except ValueError:
                raise ValueError(rule) from None
    if verdicts["c"].allows != verdicts["b"].allows:
        # rather deny than allow by default
        by_preference = sorted(verdicts.values(), key=lambda each: not each.allows)
        if not any(each.turn() for each in by_preference):
            raise ValueError(rules[-1])
    return V1Devices(verdicts["c"].allows, tuple(line for type, each in verdicts.items() for line in each.lines(type)))


def _access_bits(rule: Rule) -> int:
    return sum(_ACCESS[letter] for letter in set(rule.access))


def _covers(numbers: tuple[int | None, int | None], others: tuple[int | None, int | None]) -> bool:
    return all(number is None or number == other for number, other in zip(numbers, others, strict=True))


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


_LOAD_WORD, _MOVE, _MOVE_NUMBER, _AND, _RSH, _EXIT = 0x61, 0xBF, 0xB7, 0x57, 0x77, 0x95
_JUMP_NOT_EQUAL, _JUMP_EQUAL = 0x55, 0x15


def device_program(rules: Sequence[Rule]) -> bytes:
    """eBPF instructions of type BPF_PROG_TYPE_CGROUP_DEVICE: 1 allows, 0 denies. Each access that is asked for is decided
    by the last rule that matches it; all have to be allowed.

    struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor, 32 bits each.
    """
    program = [
        _instruction(_LOAD_WORD, 2, 1, 0), _instruction(_AND, 2, immediate=0xFFFF),  # r2: type
        _instruction(_LOAD_WORD, 3, 1, 0), _instruction(_RSH, 3, immediate=16),  # r3: access that is not allowed yet
        _instruction(_LOAD_WORD, 4, 1, 4), _instruction(_LOAD_WORD, 5, 1, 8),  # r4: major, r5: minor
    ]
    for rule in (*reversed(rules), Rule(False, "a", None, None, "rwm")):
        tests: list[bytes] = []
        if rule.type != "a":
            tests.append(_instruction(_JUMP_NOT_EQUAL, 2, immediate=_TYPES[rule.type]))
        if rule.major is not None:
            tests.append(_instruction(_JUMP_NOT_EQUAL, 4, immediate=rule.major))
        if rule.minor is not None:
            tests.append(_instruction(_JUMP_NOT_EQUAL, 5, immediate=rule.minor))
        access = _access_bits(rule)
        if access != _ALL_ACCESS and rule.allow:
            tests += [_instruction(_AND, 3, immediate=_ALL_ACCESS & ~access), _instruction(_JUMP_NOT_EQUAL, 3, immediate=0)]
        elif access != _ALL_ACCESS:
            tests += [_instruction(_MOVE, 1, 3), _instruction(_AND, 1, immediate=access), _instruction(_JUMP_EQUAL, 1, immediate=0)]
        block = [*tests, _instruction(_MOVE_NUMBER, 0, immediate=int(rule.allow)), _instruction(_EXIT)]
        for i, instruction in enumerate(block):
            if instruction[0] in (_JUMP_NOT_EQUAL, _JUMP_EQUAL):
                block[i] = instruction[:2] + struct.pack("=h", len(block) - i - 1) + instruction[4:]
        program += block
        if not tests:
            break  # the kernel refuses a program with instructions that cannot be reached
    return b"".join(program)
