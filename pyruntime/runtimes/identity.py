"""Telling one process from another with its pid, and what can be learned of processes that are not ours."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from pyruntime.interface import ProcessExitState
from pyruntime.native import files
from pyruntime.native import process as native


def read_stat(pid: int) -> tuple[str, int, int] | None:
    """(state letter, start time in ticks, exit status as of wait(2)) of /proc/PID/stat; None if there is no such process.

    The exit status is 0 while it runs, and where the caller may not trace it.
    """
    try:
        data = files.read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the command in parentheses may hold anything
    fields = data[data.rindex(b")") + 2:].split()
    return fields[0].decode(), int(fields[19]), int(fields[49])


def is_alive(pid: int, start_time: int) -> bool:
    """Whether that very process runs: not a zombie, and not another one with its pid."""
    return native.is_alive(pid, start_time)


def is_zombie(pid: int, start_time: int) -> bool:
    """Whether that very process has ended and nobody has waited for it."""
    stat = read_stat(pid)
    return stat is not None and stat[1] == start_time and stat[0] == "Z"


def wait_foreign(pid: int, start_time: int) -> ProcessExitState | None:
    """Wait for a process that is not this one's child. None: it ended, and its status is not to be had."""
    try:
        pidfd = native.open_pidfd(pid)
    except ProcessLookupError:
        return None
    try:
        stat = read_stat(pid)
        if stat is None or stat[1] != start_time:
            return None
        native.wait_until_ended(pidfd)
        # its parent may have reaped it already: then the kernel tells by the pidfd, before that by the zombie
        stat = read_stat(pid)
        if stat is not None and stat[1] == start_time:
            return from_wait_status(stat[2])
        return native.reap(pidfd)
    finally:
        os.close(pidfd)


def from_wait_status(status: int) -> ProcessExitState:
    """A status as of wait(2)."""
    if os.WIFSIGNALED(status):
        return ProcessExitState(128 + os.WTERMSIG(status), os.WTERMSIG(status))
    return ProcessExitState(os.WEXITSTATUS(status))


def read_command(pid: int) -> list[str] | None:
    """The argument vector, [name] where there is none (a zombie has none); None if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            data = file.read()
        if data:
            return [part.decode(errors="surrogateescape") for part in data.rstrip(b"\0").split(b"\0")]
        with open(f"/proc/{pid}/comm", "rb") as file:
            return [file.read().rstrip(b"\n").decode(errors="surrogateescape")]
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextlib.contextmanager
def open_process(pid: int, start_time: int) -> Iterator[int | None]:
    """A pidfd of that very process; None if it is gone."""
    try:
        pidfd = native.open_pidfd(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        stat = read_stat(pid)
        yield pidfd if stat is not None and stat[1] == start_time else None
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def require_process(pid: int, start_time: int) -> Iterator[int]:
    """The same. Raises ProcessLookupError if it is gone."""
    with open_process(pid, start_time) as pidfd:
        if pidfd is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        yield pidfd
