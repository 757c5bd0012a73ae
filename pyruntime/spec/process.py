"""The `process` object: what runs in the container and as whom (runtime-spec, config.md "Process")."""

import enum
from typing import Annotated

from msgspec import Meta, field

from pyruntime.spec.fields import Int32, Section, Text, UInt64, UserId


class RlimitType(enum.StrEnum):
    """A resource of getrlimit(2)."""

    AS = "RLIMIT_AS"
    CORE = "RLIMIT_CORE"
    CPU = "RLIMIT_CPU"
    DATA = "RLIMIT_DATA"
    FSIZE = "RLIMIT_FSIZE"
    LOCKS = "RLIMIT_LOCKS"
    MEMLOCK = "RLIMIT_MEMLOCK"
    MSGQUEUE = "RLIMIT_MSGQUEUE"
    NICE = "RLIMIT_NICE"
    NOFILE = "RLIMIT_NOFILE"
    NPROC = "RLIMIT_NPROC"
    RSS = "RLIMIT_RSS"
    RTPRIO = "RLIMIT_RTPRIO"
    RTTIME = "RLIMIT_RTTIME"
    SIGPENDING = "RLIMIT_SIGPENDING"
    STACK = "RLIMIT_STACK"


class SchedulerPolicy(enum.StrEnum):
    """A scheduling policy of sched(7)."""

    OTHER = "SCHED_OTHER"
    FIFO = "SCHED_FIFO"
    RR = "SCHED_RR"
    BATCH = "SCHED_BATCH"
    ISO = "SCHED_ISO"
    IDLE = "SCHED_IDLE"
    DEADLINE = "SCHED_DEADLINE"


class SchedulerFlag(enum.StrEnum):
    """A flag of sched_setattr(2)."""

    RESET_ON_FORK = "SCHED_FLAG_RESET_ON_FORK"
    RECLAIM = "SCHED_FLAG_RECLAIM"
    DL_OVERRUN = "SCHED_FLAG_DL_OVERRUN"
    KEEP_POLICY = "SCHED_FLAG_KEEP_POLICY"
    KEEP_PARAMS = "SCHED_FLAG_KEEP_PARAMS"
    UTIL_CLAMP_MIN = "SCHED_FLAG_UTIL_CLAMP_MIN"
    UTIL_CLAMP_MAX = "SCHED_FLAG_UTIL_CLAMP_MAX"


class IOPriorityClass(enum.StrEnum):
    """An I/O scheduling class of ioprio_set(2)."""

    RT = "IOPRIO_CLASS_RT"
    BE = "IOPRIO_CLASS_BE"
    IDLE = "IOPRIO_CLASS_IDLE"


class ConsoleSize(Section, frozen=True, kw_only=True):
    """Size of the terminal, in characters; to be ignored without `terminal`."""

    height: UInt64
    width: UInt64


class User(Section, frozen=True, kw_only=True):
    """Who the process is, in ids of the container's user namespace (config.md "POSIX-platform User").

    umask      mode bits, None to keep the runtime's
    username   of Windows (`refuse_for_host`)
    """

    uid: UserId = 0
    gid: UserId = 0
    umask: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    additional_gids: tuple[UserId, ...] = ()
    username: Text | None = None


class Capabilities(Section, frozen=True, kw_only=True):
    """Five sets of names such as `CAP_CHOWN`.

    The names stay text: one that the kernel does not know is a warning by the specification, never an error.
    """

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Section, frozen=True, kw_only=True):
    """A resource limit, in the unit that getrlimit(2) has for the type; 2**64 - 1 is unlimited."""

    type: RlimitType
    soft: UInt64
    hard: UInt64


class Scheduler(Section, frozen=True, kw_only=True):
    """Scheduling attributes (config.md "Linux Process"; sched_setattr(2)).

    priority                    1 to 99, of SCHED_FIFO and SCHED_RR only
    runtime, deadline, period   nanoseconds, of SCHED_DEADLINE only; a period of 0 is the deadline
    """

    policy: SchedulerPolicy
    nice: Annotated[int, Meta(ge=-20, le=19)] = 0
    priority: Int32 = 0
    flags: tuple[SchedulerFlag, ...] = ()
    runtime: UInt64 = 0
    deadline: UInt64 = 0
    period: UInt64 = 0


class IOPriority(Section, frozen=True, kw_only=True):
    """I/O class and the level in it, 0 (highest) to 7 (lowest)."""

    class_: IOPriorityClass = field(name="class")
    priority: Annotated[int, Meta(ge=0, le=7)]


class CPUAffinity(Section, frozen=True, kw_only=True):
    """CPUs of an exec process, as lists such as `0-3,7`: before and after it enters the cgroup."""

    initial: Text | None = None
    final: Text | None = None


class Process(Section, frozen=True, kw_only=True):
    """A process of the container, init's or a further one (config.md "Process").

    cwd               absolute path in the container
    env               entries of the form NAME=value
    capabilities      None to leave the five sets as they are, which differs from five empty ones
    oom_score_adj     -1000 to 1000, None to leave it alone
    exec_cpu_affinity does not apply to init
    command_line      of Windows (`refuse_for_host`)
    """

    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    args: tuple[str, ...] = ()
    command_line: Text | None = None
    env: tuple[str, ...] = ()
    cwd: Text
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: Text | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    selinux_label: Text | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = field(default=None, name="execCPUAffinity")
