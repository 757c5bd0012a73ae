"""Where and when a process runs: `scheduler`, `ioPriority`, `execCPUAffinity`, and of the container memory policy and personality."""

from __future__ import annotations

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan import scheduling_operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.resources import join_cgroups
from pyruntime.plan.scheduling_operations import SchedulerAttributes, Scheduling
from pyruntime.spec import CPUAffinity, MemoryPolicy, Personality, Process, SchedulerPolicy

_WORD_BYTES = 8


def mask_of(numbers: str | None) -> bytes:
    """A list such as `0-3,7` as bits, in whole words as the kernel reads them; b"" for none."""
    bits = 0
    for part in (numbers or "").split(",") if numbers else ():
        first, _, last = part.strip().partition("-")
        bits |= (1 << int(last or first) + 1) - (1 << int(first))
    words = -(-bits.bit_length() // (8 * _WORD_BYTES))
    return bits.to_bytes(words * _WORD_BYTES, "little")


def _set_affinity(draft: Draft, json_path: str, cpus: str) -> None:
    mask = mask_of(cpus)
    draft.init.append(op.SetAffinity(json_path, mask, len(mask)))


def join_on(draft: Draft, cgroups: tuple[Cgroup, ...], affinity: CPUAffinity, json_path: str) -> None:
    """Join the cgroups, with the CPUs where it runs before that, and those where it does then."""
    if affinity.initial is not None:
        _set_affinity(draft, f"{json_path}.execCPUAffinity.initial", affinity.initial)
    join_cgroups(draft, cgroups, by_itself=affinity.initial is not None)
    if affinity.final is not None:
        _set_affinity(draft, f"{json_path}.execCPUAffinity.final", affinity.final)


def set_surroundings(draft: Draft, memory_policy: MemoryPolicy | None, personality: Personality | None) -> None:
    """What every process of a container has. Before a filter may forbid it."""
    if memory_policy is not None:
        mask = mask_of(memory_policy.nodes)
        mode = flags.MEMORY_POLICY_MODES[memory_policy.mode]
        for flag in memory_policy.flags:
            mode |= flags.MEMORY_POLICY_FLAGS[flag]
        draft.init.append(op.SetMemoryPolicy("$.linux.memoryPolicy", mask, len(mask), mode))
    if personality is not None:
        draft.init.append(op.SetPersonality("$.linux.personality", flags.PERSONALITIES[personality.domain]))


def schedule(draft: Draft, process: Process, json_path: str) -> None:
    """Let the host set when it runs. Raises UnsupportedFieldError."""
    scheduler, attributes = process.scheduler, None
    if scheduler is not None:
        if scheduler.policy is SchedulerPolicy.ISO:
            raise UnsupportedFieldError(None, f"{json_path}.scheduler.policy", "is SCHED_ISO, for which Linux has a number and nothing else")
        bits = 0
        for flag in scheduler.flags:
            bits |= flags.SCHEDULER_FLAGS[flag]
        attributes = SchedulerAttributes(flags.SCHEDULER_POLICIES[scheduler.policy], bits, scheduler.nice, scheduler.priority,
                                         scheduler.runtime, scheduler.deadline, scheduler.period)
    priority = process.io_priority
    value = None if priority is None else flags.IO_CLASSES[priority.class_] << flags.IOPRIO_CLASS_SHIFT | priority.priority
    if attributes is not None or value is not None:
        draft.scheduling = Scheduling(json_path, attributes, value)
        draft.init.append(op.AwaitScheduling(f"{json_path}.{'ioPriority' if attributes is None else 'scheduler'}"))
