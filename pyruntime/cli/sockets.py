"""Where whoever called wants descriptors sent: --console-socket and --pidfd-socket."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Self

from pyruntime.cli.failures import CommandError
from pyruntime.cli.words import words_of

_TIOCGPTN = 0x80045430  # ioctl_tty(2); the module termios does not have it
_SUN_PATH = 107  # bytes that a socket's address can hold besides its NUL


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
