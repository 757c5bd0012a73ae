"""What a process gets of this command: its standard streams, or the terminal that is made for it, and further descriptors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, Self

from pyruntime.cli.failures import CommandError, words_of
from pyruntime.interface import StdioOptions
from pyruntime.runtimes.stdio import check_preserved

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime

_TIOCGPTN = 0x80045430  # ioctl_tty(2); the module termios does not have it
_SUN_PATH = 107  # bytes that a socket's address can hold besides its NUL


def inherited(options: Options) -> StdioOptions:
    """This command's own standard streams, and the descriptors that it was told to pass on. Raises SetupError if one is not open."""
    stdio = StdioOptions(in_fd=0, out_fd=1, err_fd=2, preserve_fds=options.preserve_fds)
    # before this command opens what would have the number of a missing one
    check_preserved(stdio)
    return stdio


class DescriptorSocket:
    """Where a descriptor is wanted; connected before anything is made. Raises CommandError.

    what   `console` or `pidfd`
    """

    def __init__(self, path: str, what: str) -> None:
        self._what = what
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if len(os.fsencode(path)) > _SUN_PATH:
                directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)
                try:
                    self._socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
                finally:
                    os.close(directory)
            else:
                self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise CommandError(f"connect to {what} socket {path!r}: {words_of(error.errno or 0)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, descriptor: int, name: str) -> None:
        try:
            socket.send_fds(self._socket, [name.encode()], [descriptor])
        except OSError as error:
            raise CommandError(f"send a descriptor to the {self._what} socket: {words_of(error.errno or 0)}") from error


class ConsoleSocket(DescriptorSocket):
    """Of --console-socket."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "console")

    def send(self, master: int) -> None:
        """A terminal's master, with the terminal's name as the message. Raises CommandError."""
        number: int = struct.unpack("=I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
        self._send(master, f"/dev/pts/{number}")


class PidfdSocket(DescriptorSocket):
    """Of --pidfd-socket."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "pidfd")

    def send(self, pid: int) -> None:
        """A pidfd of a child of this process that has not been waited for. Raises CommandError."""
        pidfd = os.pidfd_open(pid)
        try:
            self._send(pidfd, "pidfd")
        finally:
            os.close(pidfd)


def pidfd_socket(options: Options, held: contextlib.ExitStack) -> PidfdSocket | None:
    """None where none is asked for. Raises CommandError."""
    return held.enter_context(PidfdSocket(options.pidfd_socket)) if options.pidfd_socket else None


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
