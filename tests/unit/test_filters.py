"""Programs of `linux.seccomp`, evaluated for calls as the kernel does."""

from __future__ import annotations

import random
from typing import Any

import pytest
from filters import (
    ALLOW,
    ENOSYS,
    EPERM,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
    X86,
    X86_64,
    compiled,
    errno_action,
    evaluate,
    is_loadable,
    number,
    rule,
    seccomp_of,
)
from test_plan import V2

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import flags
from pyruntime.plan.seccomp import filter_flags, unknown_call_guard
from pyruntime.spec import SeccompArchitecture

THREE = {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}
LISTENER = {"listenerPath": "/run/agent"}
BIG = 0x1_0000_0005
NAMES = ("read", "write", "close", "mmap", "socket", "clone", "ioctl", "prctl", "fcntl", "dup", "dup2", "getpid", "getppid", "getuid",
         "geteuid", "kill", "uname", "chdir", "mkdir", "rmdir", "link", "unlink", "chmod", "chown", "umask", "sysinfo", "ptrace", "setuid",
         "setgid", "mount", "umount2", "reboot", "statx", "openat", "execve")
NEVER = 0x3FFF_FFFF  # no call of any kernel


@pytest.mark.conformance(50)
@pytest.mark.parametrize(("action", "given", "expected"), [
    ("KILL", None, KILL_THREAD), ("KILL_THREAD", None, KILL_THREAD), ("KILL_PROCESS", None, KILL_PROCESS), ("TRAP", None, TRAP),
    ("ERRNO", None, EPERM), ("ERRNO", 0, errno_action(0)), ("ERRNO", 4094, errno_action(4094)), ("TRACE", None, TRACE | 1),
    ("TRACE", 65535, TRACE | 65535), ("LOG", None, LOG), ("NOTIFY", None, NOTIFY), ("ALLOW", None, ALLOW)])
def test_actions(action: str, given: int | None, expected: int) -> None:
    listener = LISTENER if action == "NOTIFY" else {}
    other, other_action = ("SCMP_ACT_ALLOW", ALLOW) if action != "ALLOW" else ("SCMP_ACT_KILL", KILL_THREAD)
    named = compiled(other, rule("getcwd", f"SCMP_ACT_{action}", **({} if given is None else {"errnoRet": given})), **listener).program
    assert (evaluate(named, "getcwd"), evaluate(named, "getpid")) == (expected, other_action)
    assert is_loadable(named)
    default: dict[str, Any] = {} if given is None else {"defaultErrnoRet": given}
    default_program = compiled(f"SCMP_ACT_{action}", rule("statx", other), **default, **listener).program
    assert (evaluate(default_program, "getcwd"), evaluate(default_program, "statx")) == (expected, other_action)


@pytest.mark.conformance(50)
@pytest.mark.parametrize(("operator", "values", "held", "not_held"), [
    ("EQ", (BIG,), [BIG], [5, BIG + 1, BIG | 1 << 40, 0]),
    ("NE", (BIG,), [5, BIG - 1, 0, 2**64 - 1], [BIG]),
    ("LT", (BIG,), [BIG - 1, 0, 0xFFFFFFFF], [BIG, BIG + 1, 2**64 - 1]),
    ("LE", (BIG,), [BIG, 0xFFFFFFFF], [BIG + 1, 2**33]),
    ("GE", (BIG,), [BIG, 2**64 - 1, 2**33], [BIG - 1, 0xFFFFFFFF]),
    ("GT", (BIG,), [BIG + 1, 2**33], [BIG, 0xFFFFFFFF, 6]),
    ("MASKED_EQ", (0x1_0000_000F, BIG), [BIG, BIG | 0xF0, BIG | 1 << 40], [5, BIG + 1, BIG | 2]),
    ("EQ", (0,), [0], [1 << 32, 1])])
@pytest.mark.parametrize("index", range(6))
def test_operators(operator: str, values: tuple[int, ...], held: list[int], not_held: list[int], index: int) -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("mmap", "SCMP_ACT_ALLOW", (index, operator, *values)), rule("statx")).program  # type: ignore[arg-type]
    for value in held + not_held:
        args = [0x77] * 6
        args[index] = value
        assert evaluate(program, "mmap", *args) == (ALLOW if value in held else EPERM), hex(value)


@pytest.mark.conformance(50)
def test_conditions_on_several_arguments_hold_together() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("socket", "SCMP_ACT_ALLOW", (0, "EQ", 2), (1, "NE", 3), (2, "LE", 9)), rule("statx")).program
    assert evaluate(program, "socket", 2, 1, 9) == ALLOW
    for args in ((3, 1, 9), (2, 3, 9), (2, 1, 10)):
        assert evaluate(program, "socket", *args) == EPERM


@pytest.mark.conformance(50)
def test_values_that_exclude_each_other_are_alternatives() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("socket", "SCMP_ACT_ALLOW", (0, "EQ", 1), (0, "EQ", 2), (0, "EQ", 2), (1, "EQ", 7)),
                       rule("statx")).program
    for domain in range(4):
        # not either: the other argument's condition holds as well
        assert evaluate(program, "socket", domain, 7) == (ALLOW if domain in (1, 2) else EPERM)
        assert evaluate(program, "socket", domain, 8) == EPERM
    program = compiled("SCMP_ACT_ERRNO", rule("socket", "SCMP_ACT_ALLOW", (0, "LT", 3), (0, "GT", 5)), rule("statx")).program
    assert [evaluate(program, "socket", n) for n in range(8)] == [ALLOW] * 3 + [EPERM] * 3 + [ALLOW] * 2


@pytest.mark.parametrize("args", [
    ((0, "GE", 10), (0, "LE", 20)), ((0, "NE", 1), (0, "NE", 2)), ((0, "MASKED_EQ", 1, 1), (0, "MASKED_EQ", 2, 2)),
    ((0, "EQ", 3), (0, "LE", 3)), ((0, "EQ", 3), (0, "MASKED_EQ", 1, 1)), ((0, "LE", 3), (0, "MASKED_EQ", 8, 8))])
def test_conditions_on_one_argument_that_can_hold_together_are_refused(args: tuple[tuple[int, str, int], ...]) -> None:
    """As rules of their own, as runc and crun have them, each would be wider than all together."""
    with pytest.raises(UnsupportedFieldError, match="condition on argument 0") as caught:
        compiled("SCMP_ACT_ERRNO", rule("getcwd"), rule("socket", "SCMP_ACT_ALLOW", (1, "EQ", 1), *args))
    assert caught.value.json_path == "$.linux.seccomp.syscalls[1].args[2]"


@pytest.mark.conformance(50)
def test_architectures() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("mkdir statx", "SCMP_ACT_LOG"), rule("getpid"), **THREE).program
    for architecture, name in ((X86_64, "x86_64"), (X86, "x86"), (X86_64, "x32")):
        assert evaluate(program, number("mkdir", name), architecture=architecture) == LOG, name
        assert evaluate(program, number("getpid", name), architecture=architecture) == ALLOW
        assert evaluate(program, number("rmdir", name), architecture=architecture) == EPERM
    # of an architecture that is not named every call ends the thread
    assert evaluate(program, number("getpid"), architecture=0xC00000B7) == KILL_THREAD
    alone = compiled("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_ERRNO")).program
    assert evaluate(alone, number("getpid", "x86"), architecture=X86) == KILL_THREAD
    assert evaluate(alone, number("getpid", "x32")) == KILL_THREAD
    # this machine's is always there, and naming one twice means nothing more
    other = compiled("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_ERRNO"), architectures=["SCMP_ARCH_X86"] * 2).program
    assert evaluate(other, "mkdir") == evaluate(other, number("mkdir", "x86"), architecture=X86) == EPERM


def test_calls_behind_one_number_of_32_bit_x86() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("socket statx"), **THREE).program
    socketcall = number("socketcall", "x86")
    assert evaluate(program, socketcall, 1, architecture=X86) == ALLOW  # SYS_SOCKET of linux/net.h
    assert evaluate(program, socketcall, 2, architecture=X86) == EPERM


@pytest.mark.conformance(50)
@pytest.mark.parametrize("architecture", [str(architecture) for architecture in SeccompArchitecture])
def test_every_architecture_is_compiled_or_refused_with_its_path(architecture: str) -> None:
    little = {"X86", "X86_64", "X32", "ARM", "AARCH64", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC64LE", "RISCV64"}
    later = {"LOONGARCH64", "M68K", "SH", "SHEB"}
    name = architecture.removeprefix("SCMP_ARCH_")
    profile = {"architectures": ["SCMP_ARCH_X86_64", architecture]}
    if name in little:
        assert is_loadable(compiled("SCMP_ACT_ERRNO", rule("getpid"), **profile).program)
        return
    with pytest.raises(UnsupportedFieldError, match="not known to libseccomp" if name in later else "byte order") as caught:
        compiled("SCMP_ACT_ERRNO", rule("getpid"), **profile)
    assert caught.value.json_path == "$.linux.seccomp.architectures[1]"
    assert architecture in caught.value.reason


@pytest.mark.conformance(50)
def test_unknown_names_have_no_rules() -> None:
    found = compiled("SCMP_ACT_ERRNO", rule("later getpid socketcall nonsense"), rule("statx later"))
    assert found.unknown == ("later", "nonsense")
    assert evaluate(found.program, "getpid") == ALLOW
    assert found.program == compiled("SCMP_ACT_ERRNO", rule("getpid"), rule("statx")).program


@pytest.mark.parametrize("default", ["ERRNO", "KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_calls_newer_than_the_profile_do_not_exist(default: str) -> None:
    refusal = {"ERRNO": EPERM, "KILL": KILL_THREAD, "KILL_THREAD": KILL_THREAD, "KILL_PROCESS": KILL_PROCESS, "TRAP": TRAP}[default]
    program = compiled(f"SCMP_ACT_{default}", rule("read"), rule("faccessat2", "SCMP_ACT_ERRNO"), **THREE).program
    assert is_loadable(program)
    for architecture, name in ((X86_64, "x86_64"), (X86, "x86"), (X86_64, "x32")):
        newest = number("faccessat2", name)
        assert evaluate(program, newest + 1, architecture=architecture) == ENOSYS
        assert evaluate(program, newest + 100, architecture=architecture) == ENOSYS
        assert evaluate(program, newest, architecture=architecture) == EPERM
        assert evaluate(program, newest - 1, architecture=architecture) == refusal
        assert evaluate(program, number("read", name), architecture=architecture) == ALLOW
    # what is not named has none that exist
    assert evaluate(program, NEVER, architecture=0xC00000B7) == KILL_THREAD
    # a tracer has skipped the call
    assert evaluate(program, 0xFFFFFFFF) == refusal


@pytest.mark.parametrize("default", ["ALLOW", "LOG", "TRACE", "NOTIFY"])
def test_who_decides_on_calls_that_are_not_named_also_decides_on_newer_ones(default: str) -> None:
    program = compiled(f"SCMP_ACT_{default}", rule("getpid", "SCMP_ACT_KILL"), **(LISTENER if default == "NOTIFY" else {})).program
    assert evaluate(program, NEVER) == evaluate(program, "getcwd") != ENOSYS


def test_a_default_of_enosys_needs_no_guard() -> None:
    plain = compiled("SCMP_ACT_ERRNO", rule("getpid"), defaultErrnoRet=38).program
    guarded = compiled("SCMP_ACT_ERRNO", rule("getpid"), defaultErrnoRet=1).program
    assert evaluate(plain, NEVER) == evaluate(guarded, NEVER) == ENOSYS and len(plain) < len(guarded)


def test_rules_like_the_default_count_as_named() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("getpid"), rule("faccessat2", "SCMP_ACT_ERRNO")).program
    assert (evaluate(program, "close_range"), evaluate(program, "faccessat2"), evaluate(program, NEVER)) == (EPERM, EPERM, ENOSYS)


def test_without_a_name_nothing_is_newer() -> None:
    assert evaluate(compiled("SCMP_ACT_ERRNO").program, NEVER) == EPERM
    assert evaluate(compiled("SCMP_ACT_ERRNO", rule("nonsense")).program, NEVER) == EPERM


def test_private_calls_of_arm_are_not_the_newest() -> None:
    program = compiled("SCMP_ACT_ERRNO", rule("statx set_tls cacheflush"), architectures=["SCMP_ARCH_ARM"]).program
    arm, statx = 0x40000028, number("statx", "arm")
    assert evaluate(program, statx + 1, architecture=arm) == ENOSYS
    assert evaluate(program, number("set_tls", "arm"), architecture=arm) == ALLOW
    assert evaluate(program, number("breakpoint", "arm"), architecture=arm) == EPERM


def test_the_guard_of_nothing() -> None:
    assert unknown_call_guard({}) == b""


@pytest.mark.conformance(50)
def test_contradictions_are_refused_with_their_entry() -> None:
    with pytest.raises(InvalidBundleError, match="another action for 'socket'") as caught:
        compiled("SCMP_ACT_ERRNO", rule("socket", "SCMP_ACT_ALLOW", (0, "EQ", 1)), rule("getpid"),
                 rule("statx socket", "SCMP_ACT_LOG", (0, "EQ", 1)))
    assert caught.value.json_path == "$.linux.seccomp.syscalls[2]"


@pytest.mark.conformance(50)
@pytest.mark.parametrize("place", ["defaultErrnoRet", "syscalls[0].errnoRet"])
def test_an_errno_that_libseccomp_does_not_take(place: str) -> None:
    """It is the largest of the kernel's."""
    with pytest.raises(UnsupportedFieldError, match="4094 at most") as caught:
        if place == "defaultErrnoRet":
            compiled("SCMP_ACT_ERRNO", defaultErrnoRet=4095)
        else:
            compiled("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_ERRNO", errnoRet=4095))
    assert caught.value.json_path == f"$.linux.seccomp.{place}"


def test_what_is_for_every_call_counts_more_than_conditions() -> None:
    """In either order, and of two the first; as with runc and crun; podman's default profile has such entries."""
    condition = (0, "EQ", 1)
    for rules in ([rule("socket", "SCMP_ACT_LOG", condition), rule("socket")], [rule("socket"), rule("socket", "SCMP_ACT_LOG", condition)],
                  [rule("socket"), rule("socket", "SCMP_ACT_LOG")], [rule("socket", "SCMP_ACT_ERRNO"), rule("socket")]):
        assert evaluate(compiled("SCMP_ACT_ERRNO", *rules).program, "socket", 1) == ALLOW


def test_a_filter_that_the_kernel_does_not_take() -> None:
    rules = [rule("ioctl", "SCMP_ACT_ALLOW", (1, "EQ", value)) for value in range(5000)]
    with pytest.raises(InvalidBundleError, match="4096 at most") as caught:
        compiled("SCMP_ACT_ERRNO", *rules)
    assert caught.value.json_path == "$.linux.seccomp.syscalls"


def test_random_profiles() -> None:
    """Against the rules themselves; more of them than for which libseccomp makes a list."""
    generator = random.Random(20261125)
    holds = {"EQ": lambda a, b: a == b, "NE": lambda a, b: a != b, "LT": lambda a, b: a < b, "LE": lambda a, b: a <= b,
             "GE": lambda a, b: a >= b, "GT": lambda a, b: a > b}
    values = [0, 1, 2, 5, 2**32 - 1, 2**32, BIG, 2**63, 2**64 - 1]
    for count in (3, 12, 34):
        for _ in range(12):
            conditions: dict[str, tuple[int, str, int] | None] = {}
            rules = []
            for name in generator.sample(NAMES, count):
                conditions[name] = None if generator.random() < 0.5 else (
                    generator.randint(0, 5), generator.choice(list(holds)), generator.choice(values))
                condition = conditions[name]
                rules.append(rule(name, "SCMP_ACT_LOG", *([] if condition is None else [condition])))
            program = compiled("SCMP_ACT_KILL_PROCESS", *rules, rule("faccessat2", "SCMP_ACT_KILL_PROCESS"), **THREE).program
            assert is_loadable(program)
            for _ in range(150):
                name, args = generator.choice(NAMES), [generator.choice(values) for _ in range(6)]
                condition = conditions.get(name, (0, "LT", 0))
                expected = condition is None or holds[condition[1]](args[condition[0]], condition[2])
                assert evaluate(program, name, *args) == (LOG if expected else KILL_PROCESS), (name, condition, args)


@pytest.mark.conformance(50)
@pytest.mark.parametrize(("given", "bits"), [
    (None, flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW), ([], 0), (["SECCOMP_FILTER_FLAG_LOG"], flags.SECCOMP_FILTER_FLAG_LOG),
    (["SECCOMP_FILTER_FLAG_SPEC_ALLOW"] * 2, flags.SECCOMP_FILTER_FLAG_SPEC_ALLOW), (["SECCOMP_FILTER_FLAG_TSYNC"], 0)])
def test_flags(given: list[str] | None, bits: int) -> None:
    profile = {} if given is None else {"flags": given}
    assert filter_flags(seccomp_of(defaultAction="SCMP_ACT_ALLOW", **profile), V2) == bits
    listening = seccomp_of(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("mkdir", "SCMP_ACT_NOTIFY")], **LISTENER, **profile)
    assert filter_flags(listening, V2) == bits | flags.SECCOMP_FILTER_FLAG_NEW_LISTENER


@pytest.mark.conformance(50)
def test_flags_of_newer_kernels() -> None:
    seccomp = seccomp_of(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("mkdir", "SCMP_ACT_NOTIFY")], **LISTENER,
                         flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    assert filter_flags(seccomp, Host((5, 19), (), 0)) == 0b101010
    with pytest.raises(UnsupportedFieldError, match=r"needs Linux 5\.19") as caught:
        filter_flags(seccomp, Host((5, 18), (), 0))
    assert caught.value.json_path == "$.linux.seccomp.flags[1]"
