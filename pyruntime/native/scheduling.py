"""When a process runs, set by its maker."""

from __future__ import annotations

import errno

from pyruntime._native import ffi, lib
from pyruntime.errors import SetupError
from pyruntime.plan import flags
from pyruntime.plan.scheduling_operations import SchedulerAttributes, Scheduling

_POLICY_NAMES = {number: name for name, number in flags.SCHEDULER_POLICIES.items()}
_DEADLINE = flags.SCHEDULER_POLICIES["SCHED_DEADLINE"]
_REALTIME = (flags.SCHEDULER_POLICIES["SCHED_FIFO"], flags.SCHEDULER_POLICIES["SCHED_RR"])
_CLAMPS = flags.SCHEDULER_FLAGS["SCHED_FLAG_UTIL_CLAMP_MIN"] | flags.SCHEDULER_FLAGS["SCHED_FLAG_UTIL_CLAMP_MAX"]


def schedule(pid: int, scheduling: Scheduling) -> None:
    """Set it of a process. Raises SetupError."""
    scheduler = scheduling.scheduler
    if scheduler is not None:
        fields = {name: getattr(scheduler, name) for name in scheduler.__struct_fields__}
        error = -lib.set_scheduler(pid, ffi.new("struct scheduler *", fields))
        if error:
            raise SetupError("set scheduler", _POLICY_NAMES[scheduler.policy], error, f"{scheduling.json_path}.scheduler",
                             _explain(scheduler, error))
    if scheduling.io_priority is not None:
        error = -lib.set_io_priority(pid, scheduling.io_priority)
        if error:
            number = scheduling.io_priority >> flags.IOPRIO_CLASS_SHIFT
            name = next(name for name, known in flags.IO_CLASSES.items() if known == number)
            raise SetupError("set I/O priority", name, error, f"{scheduling.json_path}.ioPriority")


def _explain(scheduler: SchedulerAttributes, error: int) -> str:
    """What an errno of sched_setattr(2) means for a policy, where that is not what its text says."""
    policy = scheduler.policy
    if policy == _DEADLINE:
        return {errno.EPERM: "CAP_SYS_NICE is missing, or the process may not run on every CPU: "
                             "this process scheduler can't be used together with AllowedCPUs",
                errno.EBUSY: "the CPUs have not so much time to promise",
                errno.EINVAL: "the period is not within sched_deadline_period_min_us and sched_deadline_period_max_us of /proc/sys/kernel",
                }.get(error, "")
    if policy in _REALTIME and error == errno.EPERM:
        return "CAP_SYS_NICE is missing, or the cgroup has no realtimeRuntime"
    if scheduler.flags & _CLAMPS and error == errno.EOPNOTSUPP:
        return "this kernel has no utilization clamps"
    return ""
