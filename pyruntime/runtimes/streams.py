"""Standard streams of a process: what it gets, and the caller's ends of the pipes or of the terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
from types import TracebackType

from pyruntime.errors import SetupError
from pyruntime.interface import StdioOptions, StdioPipes


class Streams:
    """The caller's ends. They become files, and the caller's to close, when they are asked for."""

    def __init__(self, ends: tuple[int, int, int] = (-1, -1, -1), master: int = -1) -> None:
        self._ends = ends
        self._master = master
        self._pipes: StdioPipes | None = None
        self._lock = threading.Lock()

    def pipes(self) -> StdioPipes:
        """The same files at each call."""
        with self._lock:
            if self._pipes is None:
                in_, out, err = self._ends
                if self._master >= 0:
                    in_, out = (fcntl.fcntl(self._master, fcntl.F_DUPFD_CLOEXEC, 3) for _ in range(2))
                self._pipes = StdioPipes(
                    open(in_, "wb", buffering=0) if in_ >= 0 else None,
                    open(out, "rb", buffering=0) if out >= 0 else None,
                    open(err, "rb", buffering=0) if err >= 0 else None)
                self._ends = (-1, -1, -1)
            return self._pipes

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        size = struct.pack("=4H", height, width, 0, 0)
        with self._lock:
            if self._master < 0:
                raise SetupError("resize console", None, 0, None, "the process has no terminal")
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        """Close what was not given to the caller."""
        with self._lock:
            left, self._ends = (*self._ends, self._master), (-1, -1, -1)
            self._master = -1
        close_all(left)


class ChildStreams:
    """Descriptors for a new process, closed here at the end of the `with` block; `streams` are the caller's ends.

    If the block raises, the caller's ends are closed too.
    """

    def __init__(self, options: StdioOptions) -> None:
        self._owned: list[int] = []
        self._ends: list[int] = []
        try:
            self.descriptors = (self._input(options), self._output(options.create_out, options.out_fd),
                                self._output(options.create_err, options.err_fd))
        except BaseException:
            close_all(self._owned)
            close_all(self._ends)
            raise
        in_, out, err = self._ends
        self.streams = Streams((in_, out, err))

    def _input(self, options: StdioOptions) -> int:
        if not options.create_in:
            return self._given(options.in_fd, os.O_RDONLY)
        child, end = os.pipe()
        self._owned.append(child)
        self._ends.append(end)
        return child

    def _output(self, create: bool, given: int | None) -> int:
        if not create:
            return self._given(given, os.O_WRONLY)
        end, child = os.pipe()
        self._owned.append(child)
        self._ends.append(end)
        return child

    def _given(self, descriptor: int | None, mode: int) -> int:
        self._ends.append(-1)
        if descriptor is not None:
            return descriptor
        self._owned.append(os.open(os.devnull, mode))
        return self._owned[-1]

    def __enter__(self) -> ChildStreams:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        close_all(self._owned)
        if kind is not None:
            self.streams.close()


def close_all(descriptors: list[int] | tuple[int, ...]) -> None:
    """Close those that are not -1."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
