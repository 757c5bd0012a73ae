"""A program that is run to its end with a text as its standard input."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Sequence

from pyruntime._native import ffi, lib
from pyruntime.native.hook_end import HookEnd
from pyruntime.native.process import reap, send_signal

OUTPUT_KEPT = 4096
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class HookNotStartedError(Exception):
    """`detail` says what failed; empty: the execution itself."""

    def __init__(self, errno: int, detail: str) -> None:
        super().__init__(detail or "execute", os.strerror(errno))
        self.errno = errno
        self.detail = detail


def run_hook(path: bytes, arguments: Sequence[bytes], environment: Sequence[bytes], directory: bytes, timeout_s: int | None,
             text: bytes) -> HookEnd:
    """Run it in the caller's namespaces, with nothing of the caller's but what is given here; its process group is killed when its
    time is over. What it leaves behind otherwise goes on.

    Raises HookNotStartedError. What is raised by a handler of a signal meanwhile passes, and ends the hook.
    """
    with contextlib.ExitStack() as held:
        try:
            # a file: whoever does not read it is no trouble
            state = held.enter_context(open(os.memfd_create("pyruntime-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", 0))
            state.write(text)
            state.seek(0)
            fcntl.fcntl(state.fileno(), fcntl.F_ADD_SEALS, _SEALS)
            read_end, write_end = (held.enter_context(open(fd, mode, 0)) for fd, mode in zip(os.pipe2(os.O_CLOEXEC), ("rb", "wb"), strict=True))
            os.set_blocking(read_end.fileno(), False)
        except OSError as error:
            raise HookNotStartedError(error.errno or errno.EIO, "make its standard streams") from error
        pid, pidfd = _start(path, arguments, environment, directory, state.fileno(), write_end.fileno())
        output = bytearray()
        try:
            held.callback(os.close, pidfd)
            write_end.close()
            is_late = not _attend(pidfd, read_end.fileno(), timeout_s, output)
        except BaseException:
            _kill(pid, pidfd)
            reap(pidfd)
            raise
        if is_late:
            _kill(pid, pidfd)
        end = reap(pidfd)
        if is_late or end is None:
            return HookEnd(None, None, is_late, bytes(output))
        return HookEnd(None if end.signal else end.exit_code, end.signal, False, bytes(output))


def _start(path: bytes, arguments: Sequence[bytes], environment: Sequence[bytes], directory: bytes, input: int, output: int) -> tuple[int, int]:
    hook = ffi.new("struct hook *")
    texts = [ffi.new("char[]", text) for text in (path, directory, *arguments, *environment)]
    hook.path, hook.directory = texts[:2]
    vectors = [ffi.new("char *[]", [*part, ffi.NULL]) for part in (texts[2:2 + len(arguments)], texts[2 + len(arguments):])]
    hook.arguments, hook.environment = vectors
    hook.umask, hook.input, hook.output, hook.pidfd = -1, input, output, -1
    error = lib.start_hook(hook)
    if error:
        if hook.pidfd >= 0:
            reap(hook.pidfd)
            os.close(hook.pidfd)
        doing = {lib.HOOK_CLONE: "clone3", lib.HOOK_DIRECTORY: f"chdir {os.fsdecode(directory)!r}"}.get(hook.failed, "")
        raise HookNotStartedError(-error, doing)
    return hook.pid, hook.pidfd


def _attend(pidfd: int, output_fd: int, timeout_s: int | None, output: bytearray) -> bool:
    """Until the process has ended, whoever else holds its output; false once the time is over."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output_fd, select.POLLIN)
    while True:
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        ready = dict(poll.poll(None if left_s is None else min(left_s * 1000 + 1, 2**31 - 1)))
        if not ready:
            continue
        if output_fd in ready and not _take(output_fd, output):
            poll.unregister(output_fd)
        if pidfd in ready:
            return True


def _take(fd: int, output: bytearray) -> bool:
    """What there is; false: nobody will write any more."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):  # whoever writes for ever must not keep us from looking at the time
            data = os.read(fd, 65536)
            if not data:
                return False
            output += data
            del output[:-OUTPUT_KEPT]
    return True


def _kill(pid: int, pidfd: int) -> None:
    """Its process group has its pid, which is its own until it is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it may have left the group
        send_signal(pidfd, signal.SIGKILL)
