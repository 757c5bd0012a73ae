"""The operations that say where a process runs, and what the host sets of when it does. Few plans have any, so `operations` has not
these."""

from __future__ import annotations

import msgspec

from pyruntime.plan import flags
from pyruntime.plan.operation import Operation


def _numbers(mask: bytes) -> str:
    """The bits of a mask as a list: `0-3,7`."""
    bits = int.from_bytes(mask, "little")
    parts, first = [], -1
    for number in range(bits.bit_length() + 1):
        if bits >> number & 1:
            first = number if first < 0 else first
        elif first >= 0:
            parts.append(str(first) if first == number - 1 else f"{first}-{number - 1}")
            first = -1
    return ",".join(parts)


class SetAffinity(Operation, frozen=True):
    members: bytes
    size: int

    def subject(self) -> str:
        return _numbers(self.members)


class SetMemoryPolicy(Operation, frozen=True):
    """mode: of MEMORY_POLICY_MODES and MEMORY_POLICY_FLAGS in plan/flags.py."""

    members: bytes
    size: int
    mode: int

    def subject(self) -> str:
        name = next(name for name, number in flags.MEMORY_POLICY_MODES.items() if number == self.mode & 0xfff)
        return f"{name} {_numbers(self.members)}".rstrip()


class SetPersonality(Operation, frozen=True):
    personality: int

    def subject(self) -> str:
        return next(name for name, number in flags.PERSONALITIES.items() if number == self.personality)


class AwaitScheduling(Operation, frozen=True):
    """What the plan's `scheduling` is done at."""


class SchedulerAttributes(msgspec.Struct, frozen=True):
    """As sched_setattr(2) has them; runtime, deadline and period in nanoseconds."""

    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int


class Scheduling(msgspec.Struct, frozen=True):
    """What the host sets of the process once it is about to run: the process has no right to it any more, some of it is lost at a fork,
    and a deadline process cannot fork.

    json_path    of the process
    io_priority  as ioprio_set(2) has it, the class above the level
    """

    json_path: str
    scheduler: SchedulerAttributes | None = None
    io_priority: int | None = None
