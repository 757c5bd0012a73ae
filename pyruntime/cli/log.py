"""Where errors and warnings go: one line for people, and one record for whoever called."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os

import msgspec

from pyruntime.cli.called import error_line


class Log:
    """Where it goes what the runtime tells.

    path     the file of --log; None: standard error
    lowest   the file gets no lower descriptor: those below are what the caller passes on
    Raises OSError.
    """

    def __init__(self, path: str | None = None, is_json: bool = False, lowest: int = 3) -> None:
        self._is_json = is_json
        self._file = -1 if path is None else _open_above(path, lowest)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def write(self, level: str, message: str) -> None:
        """One line, in the file or else on standard error. One that is full keeps the command from nothing."""
        with contextlib.suppress(OSError):
            os.write(2 if self._file < 0 else self._file, rendered(level, message, self._is_json, _now()))

    def error(self, message: str, command: str = "", error: Exception | None = None) -> None:
        """Why the command fails: a line on standard error, and a record in the file if there is one."""
        with contextlib.suppress(OSError):
            os.write(2, f"{_escaped(error_line(message, command, error))}\n".encode(errors="backslashreplace"))
        self.record(message)

    def record(self, message: str) -> None:
        """The same in the file alone."""
        if self._file >= 0:
            self.write("error", _escaped(message))


def _escaped(message: str) -> str:
    """Whoever reads lines is not to take a path for two of them, nor a terminal for its own business."""
    return "".join(repr(character)[1:-1] if ord(character) < 32 or ord(character) == 127 else character for character in message)


def rendered(level: str, message: str, is_json: bool, time: str) -> bytes:
    """One line."""
    message = message.encode(errors="backslashreplace").decode()
    if is_json:
        return msgspec.json.encode({"level": level, "msg": message, "time": time}) + b"\n"
    return f'time="{time}" level={level} msg={msgspec.json.encode(message).decode()}\n'.encode()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _open_above(path: str, lowest: int) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    if descriptor >= lowest:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    finally:
        os.close(descriptor)
