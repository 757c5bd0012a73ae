"""The descriptors that a process gets, and the caller's ends."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import BinaryIO, cast

from pyruntime.errors import SetupError
from pyruntime.interface import StdioOptions, StdioPipes

_NULL_DEVICE = os.makedev(1, 3)


def check_preserved(options: StdioOptions) -> None:
    """Before anything is opened: it would have the number of a descriptor that the caller wants to pass and has not opened.

    Raises SetupError.
    """
    for fd in range(3, 3 + options.preserve_fds):
        _check_open(fd, fd)


def _check_open(stream: int, fd: int) -> int:
    try:
        os.fstat(fd)
    except OSError as error:
        raise SetupError(f"pass descriptor {stream}", None, error.errno or 0, None, f"{fd} is not open") from error
    return fd


_null_lock = threading.Lock()
_null_fd = -1


def _renew_lock() -> None:
    """A thread that held it is not in a forked child, which would wait for it for ever."""
    global _null_lock
    _null_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def open_null() -> int:
    """The null device: one descriptor for the process, opened anew if the caller has closed it meanwhile."""
    global _null_fd
    with _null_lock:
        if _null_fd < 0 or not _is_null(_null_fd):
            fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            if not _is_null(fd):
                os.close(fd)
                raise SetupError("open the null device", "/dev/null", 0, None, "it is not the null device")
            _null_fd = fd
    return _null_fd


def _is_null(fd: int) -> bool:
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE


class PreparedStdio:
    """Descriptors for one process. `close_child_ends` once it has them; `close` if it never came to be."""

    def __init__(self, options: StdioOptions) -> None:
        self._own: list[int] = []
        self._caller: list[int | None] = [None, None, None]
        self._null = -1
        try:
            self.child = (self._stream(0, options.create_in, options.in_fd), self._stream(1, options.create_out, options.out_fd),
                          self._stream(2, options.create_err, options.err_fd))
        except BaseException:
            self.close()
            raise

    def _stream(self, stream: int, creates: bool, given: int | None) -> int:
        if creates:
            return self._pipe(stream)
        if given is not None:
            return _check_open(stream, given)
        if self._null < 0:
            self._null = open_null()
        return self._null

    def _pipe(self, stream: int) -> int:
        read, write = os.pipe2(os.O_CLOEXEC)
        child, caller = (read, write) if stream == 0 else (write, read)
        self._own.append(child)
        self._caller[stream] = caller
        return child

    def close_child_ends(self) -> None:
        for fd in self._own:
            os.close(fd)
        self._own.clear()

    def close(self) -> None:
        self.close_child_ends()
        for i, fd in enumerate(self._caller):
            if fd is not None:
                os.close(fd)
            self._caller[i] = None

    def take_pipes(self, console: int) -> StdioPipes:
        """The caller's ends as files, which own them; a console takes the place of all three."""
        if console >= 0:
            for fd in self._caller:
                if fd is not None:
                    os.close(fd)
            self._caller = [None, None, None]
            # a descriptor each, so that closing one file leaves the other
            typed = os.dup(console)
            try:
                in_ = _open(typed, "wb")
            except OSError:
                os.close(typed)
                raise
            return StdioPipes(in_, _open(console, "rb"), None)
        files = [None if fd is None else _open(fd, "wb" if i == 0 else "rb") for i, fd in enumerate(self._caller)]
        self._caller = [None, None, None]
        return StdioPipes(*files)


def _open(fd: int, mode: str) -> BinaryIO:
    return cast(BinaryIO, open(fd, mode, buffering=0))


def close_pipes(pipes: StdioPipes) -> None:
    """Close what is still open; data that nobody reads any more is no error."""
    for file in (pipes.in_, pipes.out, pipes.err):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
