"""The caller's side of a process's terminal."""

from __future__ import annotations

import errno
import fcntl
import struct
import termios

from pyruntime.errors import SetupError
from pyruntime.interface import StdioPipes


def resize_terminal(pipes: StdioPipes, width: int, height: int) -> None:
    """Set the size in characters. Raises SetupError if there is no terminal, or its files are closed."""
    if pipes.out is None or pipes.out.closed or not pipes.out.isatty():
        raise SetupError("resize console", None, errno.ENOTTY, None, "the process has no terminal here")
    fcntl.ioctl(pipes.out, termios.TIOCSWINSZ, struct.pack("=4H", height, width, 0, 0))
