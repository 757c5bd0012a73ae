"""Checks of a `process` object (runtime-spec, config.md "Process")."""

from __future__ import annotations

from pyruntime.spec.checks.integers import UINT64_MAX, check_uint64
from pyruntime.spec.checks.text import check_absolute, check_mask
from pyruntime.spec.process import Process, Scheduler, SchedulerPolicy
from pyruntime.spec.refusal import Refused, quote

_REALTIME = (SchedulerPolicy.FIFO, SchedulerPolicy.RR)
_LARGEST_WINSIZE = 2**16 - 1  # struct winsize, ioctl_tty(2)
_SHORTEST_RUNTIME_NS = 1024  # __checkparam_dl() of the kernel


def check_process(process: Process, json_path: str, is_windows: bool = False) -> None:
    """Refuse what cannot be run. `json_path` is where the object stands; Windows has other paths."""
    if not process.args and process.command_line is None:
        raise Refused(f"{json_path}.args", "at least one entry is required")
    if not is_windows:
        check_absolute(process.cwd, f"{json_path}.cwd")
    for i, variable in enumerate(process.env):
        if variable.find("=") < 1:
            raise Refused(f"{json_path}.env[{i}]", f"{quote(variable)} is not of the form NAME=value")
    if process.rlimits:
        _check_rlimits(process, json_path)
    if process.console_size is not None and process.terminal:
        for name, size in (("height", process.console_size.height), ("width", process.console_size.width)):
            if size > _LARGEST_WINSIZE:
                raise Refused(f"{json_path}.consoleSize.{name}", f"is {size}, but must be at most {_LARGEST_WINSIZE}")
    if process.scheduler is not None:
        _check_scheduler(process.scheduler, f"{json_path}.scheduler")
    if process.exec_cpu_affinity is not None:
        check_mask(process.exec_cpu_affinity.initial, f"{json_path}.execCPUAffinity.initial")
        check_mask(process.exec_cpu_affinity.final, f"{json_path}.execCPUAffinity.final")


def _check_rlimits(process: Process, json_path: str) -> None:
    seen = set()
    for i, limit in enumerate(process.rlimits):
        if limit.type in seen:
            raise Refused(f"{json_path}.rlimits[{i}].type", f"{quote(limit.type.value)} is given twice")
        seen.add(limit.type)
        if limit.hard > UINT64_MAX:
            check_uint64(limit.hard, f"{json_path}.rlimits[{i}].hard")
        if limit.soft > limit.hard:
            raise Refused(f"{json_path}.rlimits[{i}].soft", f"is {limit.soft}, above the hard limit {limit.hard}")


def _check_scheduler(scheduler: Scheduler, json_path: str) -> None:
    policy = scheduler.policy
    if policy in _REALTIME and not 1 <= scheduler.priority <= 99:
        raise Refused(f"{json_path}.priority", f"is {scheduler.priority}, but must be 1 to 99 with {policy}")
    if policy not in _REALTIME and scheduler.priority != 0:
        raise Refused(f"{json_path}.priority", f"is {scheduler.priority}, but {policy} has no priority")
    times = (("runtime", scheduler.runtime), ("deadline", scheduler.deadline), ("period", scheduler.period))
    if policy is not SchedulerPolicy.DEADLINE:
        for name, nanoseconds in times:
            if nanoseconds:
                raise Refused(f"{json_path}.{name}", f"is {nanoseconds}, but {policy} has none")
        return
    for name, nanoseconds in times:
        # sched_setattr(2): below 2**63
        if nanoseconds >= 2**63:
            raise Refused(f"{json_path}.{name}", f"is {nanoseconds}, but must be at most {2**63 - 1}")
    if scheduler.runtime < _SHORTEST_RUNTIME_NS:
        raise Refused(f"{json_path}.runtime", f"is {scheduler.runtime}, but must be at least {_SHORTEST_RUNTIME_NS}")
    if scheduler.deadline < scheduler.runtime:
        raise Refused(f"{json_path}.deadline", f"is {scheduler.deadline}, below the runtime {scheduler.runtime}")
    if scheduler.period and scheduler.period < scheduler.deadline:
        raise Refused(f"{json_path}.period", f"is {scheduler.period}, below the deadline {scheduler.deadline}")
