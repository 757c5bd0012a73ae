"""What the programs in a MockRuntime's containers do: callables, run in threads."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping

from pyruntime.interface import ProcessExitState
from pyruntime.notices import log

# pids that no kernel gives out: pid_max is at most 4194304 (proc_sys_kernel(5))
FIRST_PID = 4194305

_IGNORED_BY_DEFAULT = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP,
                                 signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU))


class EndedBySignalError(BaseException):
    """Raised inside a program whose process a signal has ended; not to be caught."""


class MockProcess:
    """A process as its program sees it.

    pid, args, env, cwd, terminal   as the process was asked for
    stdin, stdout, stderr           descriptors, the process's own

    A program returns its exit code (None is 0). It can only be stopped where it calls `read`, `write`, `sleep` or
    `wait`: a signal without a handler raises there, and a paused container blocks there.
    """

    def __init__(self, pid: int, args: list[str], env: Mapping[str, str], cwd: str, terminal: bool,
                 descriptors: tuple[int, int, int], spawn: Callable[[list[str]], MockProcess], held: bool) -> None:
        self.pid = pid
        self.args = args
        self.env = dict(env)
        self.cwd = cwd
        self.terminal = terminal
        self.stdin, self.stdout, self.stderr = descriptors
        self.exit: ProcessExitState | None = None
        self._spawn = spawn
        self._changed = threading.Condition()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._handlers: dict[int, Callable[[], None]] = {}
        self._pending: list[int] = []
        self._ended_by: int | None = None
        self._held = held
        self._paused = False

    # for programs

    def read(self, size: int = 65536) -> bytes:
        """Bytes from standard input; b'' at its end."""
        while True:
            self._step()
            if not self._await(self.stdin, select.POLLIN):
                continue
            try:
                return os.read(self.stdin, size)
            except OSError as error:  # a terminal whose other side is closed
                if error.errno != errno.EIO:
                    raise
                return b""

    def write(self, data: bytes | str, error: bool = False) -> None:
        """All of it, to standard output or error. A closed pipe ends the process as SIGPIPE does."""
        left = data.encode() if isinstance(data, str) else data
        descriptor = self.stderr if error else self.stdout
        while left:
            self._step()
            if self._await(descriptor, select.POLLOUT):
                try:
                    left = left[os.write(descriptor, left[:select.PIPE_BUF]):]
                except BrokenPipeError:
                    self._ended_by = signal.SIGPIPE
                    raise EndedBySignalError from None

    def sleep(self, seconds: float | None = None) -> None:
        """For so long, or until a signal ends the process."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self._step()
            with self._changed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                if not (self._pending or self._ended_by or self._paused):
                    self._changed.wait(left)

    def on_signal(self, number: int, handler: Callable[[], None]) -> None:
        """Call `handler` in the program's thread when that signal comes. Not for SIGKILL."""
        self._handlers[int(number)] = handler

    def spawn(self, args: list[str]) -> MockProcess:
        """Start a further process in the container, which the runtime did not create."""
        return self._spawn(args)

    def wait(self) -> ProcessExitState:
        """Wait for a spawned process."""
        with self._changed:
            while self.exit is None:
                self._changed.wait()
            return self.exit

    # for the runtime

    def send_signal(self, number: int) -> None:
        with self._changed:
            if number == 0 or self.exit is not None:
                return
            if number in self._handlers and number != signal.SIGKILL:
                self._pending.append(number)
            elif number not in _IGNORED_BY_DEFAULT:
                self._ended_by = self._ended_by or int(number)
            self._wake()

    def set_paused(self, paused: bool) -> None:
        with self._changed:
            self._paused = paused
            self._wake()

    def release(self) -> None:
        """Let a held process begin its program."""
        with self._changed:
            self._held = False
            self._wake()

    def run(self, program: Callable[[MockProcess], int | None], before_end: Callable[[], None]) -> None:
        """The body of the process's thread."""
        code = 0
        try:
            self._step()
            code = program(self) or 0
            self._step()
        except EndedBySignalError:
            pass
        except Exception:
            log.exception("the program of mock process %d failed: %s", self.pid, self.args)
            code = 1
        before_end()
        self.end(code)

    def end(self, code: int) -> None:
        """Record the end; the descriptors are closed after that, so that whoever sees end of file sees the status."""
        with self._changed:
            by = self._ended_by
            self.exit = ProcessExitState(128 + by if by else code & 0xFF, by, 0.0, 0.0, 0)
            for descriptor in {self.stdin, self.stdout, self.stderr, self._wakeup}:
                os.close(descriptor)
            self._wakeup = -1
            self._changed.notify_all()

    def _wake(self) -> None:
        if self._wakeup >= 0:
            os.eventfd_write(self._wakeup, 1)
        self._changed.notify_all()

    def _step(self) -> None:
        """Where signals and the freezer take effect."""
        while True:
            with self._changed:
                while (self._paused and self._ended_by != signal.SIGKILL) or (self._held and not self._ended_by):
                    self._changed.wait()
                if self._ended_by is not None:
                    raise EndedBySignalError
                if not self._pending:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wakeup)
                    return
                handler = self._handlers[self._pending.pop(0)]
            handler()

    def _await(self, descriptor: int, event: int) -> bool:
        """Whether the descriptor is ready; false after a wake-up."""
        poller = select.poll()
        poller.register(descriptor, event)
        poller.register(self._wakeup, select.POLLIN)
        return self._wakeup not in (ready for ready, _ in poller.poll())


Program = Callable[[MockProcess], int | None]


def _sleep(process: MockProcess) -> int:
    process.sleep(sum(float(word) for word in process.args[1:]))
    return 0


def _cat(process: MockProcess) -> int:
    while data := process.read():
        process.write(data)
    return 0


def _echo(process: MockProcess) -> int:
    process.write(" ".join(process.args[1:]) + "\n")
    return 0


def _shell(process: MockProcess) -> int | None:
    """`sh -c "exit N"`, and `sh -c` of one of the other programs without quoting; anything else is status 127."""
    words = process.args[2].split() if process.args[1:2] == ["-c"] and len(process.args) > 2 else []
    if words[:1] == ["exit"]:
        return int(words[1]) if len(words) > 1 else 0
    program = find_program(DEFAULT_PROGRAMS, words[0]) if words else None
    if program is None or program is _shell:
        process.write(f"mock sh: not understood: {process.args[1:]}\n", error=True)
        return 127
    process.args = words
    return program(process)


# A name is that program in any of these.
PROGRAM_DIRECTORIES = ("", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")

DEFAULT_PROGRAMS: Mapping[str, Program] = {
    "true": lambda process: 0,
    "false": lambda process: 1,
    "sleep": _sleep,
    "cat": _cat,
    "echo": _echo,
    "sh": _shell,
}


def find_program(programs: Mapping[str, Program], path: str) -> Program | None:
    """By the whole path, else by the name if it is in one of the usual directories."""
    directory, _, name = path.rpartition("/")
    return programs.get(path) or (programs.get(name) if directory in PROGRAM_DIRECTORIES else None)
