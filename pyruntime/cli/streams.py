"""What a process gets of this command: its standard streams, or the terminal that is made for it, and further descriptors."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pyruntime.cli.failures import CommandError, words_of
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


def write_pid_file(path: str | None, pid: int) -> None:
    """All at once, since somebody may be waiting for it. Raises CommandError."""
    if path is None:
        return
    new = f"{path}.{os.getpid()}.new"
    try:
        with open(new, "w", opener=_open_new) as file:
            file.write(str(pid))
        os.rename(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise CommandError(f"write pid file {path!r}: {words_of(error.errno or 0)}") from error


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o644)
