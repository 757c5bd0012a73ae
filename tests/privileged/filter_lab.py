"""Filters of system calls as changes of a configuration, and what a process says of its own."""

from __future__ import annotations

from typing import Any

MKDIR = ["mkdir", "mkdirat"]
ADMIN = 1 << 21  # CAP_SYS_ADMIN


def seccomp(default: str = "ALLOW", *rules: dict[str, Any], **profile: Any) -> dict[str, Any]:
    """Changes of a configuration."""
    return {"linux": {"seccomp": {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **profile}}}


def rule(names: list[str], action: str = "ERRNO", *args: tuple[int, str, int], **more: Any) -> dict[str, Any]:
    return {"names": names, "action": f"SCMP_ACT_{action}", **more,
            "args": [{"index": index, "op": f"SCMP_CMP_{operator}", "value": value} for index, operator, value in args]}


def strict(*more: dict[str, Any], **profile: Any) -> dict[str, Any]:
    """What a static program needs to print something, and no more."""
    return seccomp("ERRNO", rule(["execve", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "brk", "mprotect", "prlimit64",
                                  "readlink", "readlinkat", "getrandom", "newfstatat", "fstat", "write", "exit_group", "uname"], "ALLOW"),
                   *more, **profile)


def fields(status: str) -> dict[str, int]:
    """Lines of /proc/PID/status whose values are hexadecimal."""
    return {name: int(value, 16) for name, _, value in (line.partition(":\t") for line in status.splitlines())}
