"""The `linux.seccomp` object (runtime-spec, config-linux.md "Seccomp"); names are libseccomp's."""

import enum
from typing import Annotated

from msgspec import Meta

from pyruntime.spec.fields import Section, Text, UInt16, UInt64


class SeccompAction(enum.StrEnum):
    """What happens to a system call."""

    KILL = "SCMP_ACT_KILL"
    KILL_PROCESS = "SCMP_ACT_KILL_PROCESS"
    KILL_THREAD = "SCMP_ACT_KILL_THREAD"
    TRAP = "SCMP_ACT_TRAP"
    ERRNO = "SCMP_ACT_ERRNO"
    TRACE = "SCMP_ACT_TRACE"
    ALLOW = "SCMP_ACT_ALLOW"
    LOG = "SCMP_ACT_LOG"
    NOTIFY = "SCMP_ACT_NOTIFY"


class SeccompArchitecture(enum.StrEnum):
    """A machine whose system call numbers the filter knows."""

    X86 = "SCMP_ARCH_X86"
    X86_64 = "SCMP_ARCH_X86_64"
    X32 = "SCMP_ARCH_X32"
    ARM = "SCMP_ARCH_ARM"
    AARCH64 = "SCMP_ARCH_AARCH64"
    MIPS = "SCMP_ARCH_MIPS"
    MIPS64 = "SCMP_ARCH_MIPS64"
    MIPS64N32 = "SCMP_ARCH_MIPS64N32"
    MIPSEL = "SCMP_ARCH_MIPSEL"
    MIPSEL64 = "SCMP_ARCH_MIPSEL64"
    MIPSEL64N32 = "SCMP_ARCH_MIPSEL64N32"
    PPC = "SCMP_ARCH_PPC"
    PPC64 = "SCMP_ARCH_PPC64"
    PPC64LE = "SCMP_ARCH_PPC64LE"
    S390 = "SCMP_ARCH_S390"
    S390X = "SCMP_ARCH_S390X"
    PARISC = "SCMP_ARCH_PARISC"
    PARISC64 = "SCMP_ARCH_PARISC64"
    RISCV64 = "SCMP_ARCH_RISCV64"
    LOONGARCH64 = "SCMP_ARCH_LOONGARCH64"
    M68K = "SCMP_ARCH_M68K"
    SH = "SCMP_ARCH_SH"
    SHEB = "SCMP_ARCH_SHEB"


class SeccompFlag(enum.StrEnum):
    """A flag of seccomp(2)."""

    TSYNC = "SECCOMP_FILTER_FLAG_TSYNC"
    LOG = "SECCOMP_FILTER_FLAG_LOG"
    SPEC_ALLOW = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
    WAIT_KILLABLE_RECV = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"


class SeccompOperator(enum.StrEnum):
    """How an argument of a system call is compared."""

    NE = "SCMP_CMP_NE"
    LT = "SCMP_CMP_LT"
    LE = "SCMP_CMP_LE"
    EQ = "SCMP_CMP_EQ"
    GE = "SCMP_CMP_GE"
    GT = "SCMP_CMP_GT"
    MASKED_EQ = "SCMP_CMP_MASKED_EQ"


class SyscallArgument(Section, frozen=True, kw_only=True):
    """A condition on argument `index` (0 to 5); with MASKED_EQ, `value` is the mask and `value_two` the datum."""

    index: Annotated[int, Meta(ge=0, le=5)]
    value: UInt64
    value_two: UInt64 = 0
    op: SeccompOperator


class SyscallRule(Section, frozen=True, kw_only=True):
    """What happens to the named calls if all of `args` hold; `errno_ret` None is EPERM."""

    names: Annotated[tuple[Text, ...], Meta(min_length=1)]
    action: SeccompAction
    errno_ret: UInt16 | None = None
    args: tuple[SyscallArgument, ...] = ()


class Seccomp(Section, frozen=True, kw_only=True):
    """A filter.

    architectures       empty is the machine's own only
    flags               None (absent) differs from (): runc and crun then use SPEC_ALLOW
    listener_path       unix socket that is sent the descriptor of a filter that has NOTIFY rules
    listener_metadata   goes with it, uninterpreted
    """

    default_action: SeccompAction
    default_errno_ret: UInt16 | None = None
    architectures: tuple[SeccompArchitecture, ...] = ()
    flags: tuple[SeccompFlag, ...] | None = None
    listener_path: Text | None = None
    listener_metadata: Text | None = None
    syscalls: tuple[SyscallRule, ...] = ()
