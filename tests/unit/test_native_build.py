"""What the C sources call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# All that the init calls: nothing that allocates, locks, buffers, reads the environment, or looks up names of users.
OF_THE_INIT = {
    "__errno_location", "_exit", "accept4", "atoi", "chdir", "chroot", "close", "dup3", "execve", "fchdir",
    "fchmod", "fchown", "fchownat", "fcntl", "fgetxattr", "flistxattr", "fsetxattr", "fstat", "fstatat", "fstatfs", "ftruncate",
    "futimens", "getpid", "getsockopt", "ioctl", "isatty", "kill", "linkat", "lseek",
    "memchr", "memcmp", "memfd_create", "memmove", "mkdirat", "mknodat", "mmap", "pipe2", "poll", "pread", "prctl", "pwrite", "read",
    "readlinkat", "recvmsg", "send", "sendmsg", "sethostname", "setsid", "socket", "strchr", "strcmp", "strcpy", "strcspn", "strlen",
    "strncmp", "strnlen", "strrchr", "strspn", "strstr", "symlinkat", "syscall", "umask", "unlinkat", "utimensat", "write"}
# and what the clone's child calls, which has its errno in common with a thread of the caller
OF_THE_CHILD: set[str] = set()
# what a compiler may call by itself
OF_THE_COMPILER = {"__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
COMPILE = """
import build, subprocess, sys
include = [x for directory in build.include_directories() for x in ("-idirafter", str(directory))]
for name in sys.argv[2:]:
    subprocess.run([build.find_musl_gcc(), "-std=gnu11", "-Os", *build.INIT_HARDENING, *include, "-c", str(build.NATIVE / f"{name}.c"),
                    "-o", f"{sys.argv[1]}/{name}.o"], check=True)
"""


def symbols(*arguments: str) -> set[str]:
    shown = subprocess.run(["nm", "-P", *arguments], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in shown.splitlines() if not line.endswith(":")}


def called_from_outside(directory: Path, names: list[str]) -> set[str]:
    """What these sources call of a C library."""
    subprocess.run([sys.executable, "-c", COMPILE, str(directory), *names], cwd=ROOT, check=True)
    objects = sorted(map(str, directory.glob("*.o")))
    assert len(objects) == len(names)
    return symbols("-u", *objects) - symbols("--defined-only", "--extern-only", *objects) - OF_THE_COMPILER


def init_sources() -> list[str]:
    return subprocess.run([sys.executable, "-c", "import build; print(*build.INIT_SOURCES)"], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout.split()


def test_the_init_calls_nothing_but_what_is_known(tmp_path: Path) -> None:
    assert called_from_outside(tmp_path, init_sources()) == OF_THE_INIT


def test_the_clones_child_calls_nothing_but_what_is_known(tmp_path: Path) -> None:
    assert called_from_outside(tmp_path, ["child", "hook"]) == OF_THE_CHILD
