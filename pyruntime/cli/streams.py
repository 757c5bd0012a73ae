"""What a process gets of this command: its standard streams, or the terminal that is made for it, and further descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Self

from pyruntime.cli.failures import CommandError
from pyruntime.cli.words import words_of
from pyruntime.interface import StdioOptions
from pyruntime.runtimes.stdio import check_preserved

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.cli.sockets import ConsoleSocket, PidfdSocket
    from pyruntime.runtimes.native import NativeRuntime


def inherited(options: Options) -> StdioOptions:
    """This command's own standard streams, and the descriptors that it was told to pass on. Raises SetupError if one is not open."""
    stdio = StdioOptions(in_fd=0, out_fd=1, err_fd=2, preserve_fds=options.preserve_fds)
    # before this command opens what would have the number of a missing one
    check_preserved(stdio)
    return stdio


def console_socket(options: Options, held: contextlib.ExitStack) -> ConsoleSocket | None:
    """None where none is asked for. Raises CommandError."""
    if not options.console_socket:
        return None
    from pyruntime.cli.sockets import ConsoleSocket  # it takes a while, and few need it

    return held.enter_context(ConsoleSocket(options.console_socket))


def pidfd_socket(options: Options, held: contextlib.ExitStack) -> PidfdSocket | None:
    """None where none is asked for. Raises CommandError."""
    if not options.pidfd_socket:
        return None
    from pyruntime.cli.sockets import PidfdSocket

    return held.enter_context(PidfdSocket(options.pidfd_socket))


def terminal_of(runtime: NativeRuntime, id: str, pid: int) -> int | None:
    """The master of a process's terminal; None if it has none."""
    out = runtime.get_stdio_pipes(id, pid).out
    return None if out is None else out.fileno()


def hand_over_terminal(master: int | None, console: ConsoleSocket | None) -> None:
    """Send a detached process's terminal to whoever asked for it. Raises CommandError where nobody did, or there is none."""
    if master is None and console is not None:
        raise CommandError("--console-socket is given, but the process is to have no terminal")
    if master is not None and console is None:
        raise CommandError("the process is to have a terminal, but there is no --console-socket to send it to")
    if master is not None and console is not None:
        console.send(master)


class PidFile:
    """Of --pid-file (None: none is wanted). It is made beside its place before there is a process, and put there at once, with the pid:
    somebody may be waiting for it. Raises CommandError."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._beside: str | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        beside = f"{self._path}.{os.getpid()}.new"
        try:
            if os.path.isdir(self._path):
                raise IsADirectoryError(errno.EISDIR, "")
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise self._explained(error) from error
        self._beside = beside
        return self

    def __exit__(self, *_: object) -> None:
        if self._beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._beside)

    def write(self, pid: int) -> None:
        if self._path is None or self._beside is None:
            return
        try:
            with open(self._beside, "w") as file:
                file.write(str(pid))
            os.rename(self._beside, self._path)
        except OSError as error:
            raise self._explained(error) from error
        self._beside = None

    def _explained(self, error: OSError) -> CommandError:
        return CommandError(f"write pid file {self._path!r}: {words_of(error.errno or 0)}")
