"""The signals that whoever waits for a process passes on to it."""

from __future__ import annotations

from typing import Self

from pyruntime._native import ffi, lib
from pyruntime.errors import SetupError


class CaughtSignals:
    """From the entering on they end nothing, but wait to be taken. Nearly all that there are, as with runc; a fault of this process's own
    ends it as ever. For a process without other threads, which would get what is sent to it. Raises SetupError."""

    def __init__(self) -> None:
        self._before = ffi.new("uint64_t *")
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = int(lib.catch_signals(self._before))
        if self._descriptor < 0:
            raise SetupError("catch signals", None, -self._descriptor, None)
        return self

    def __exit__(self, *_: object) -> None:
        # what came too late for the process is not to end this one either
        while self.take():
            pass
        lib.release_signals(self._descriptor, self._before[0])

    def fileno(self) -> int:
        return self._descriptor

    def take(self) -> int:
        """The number of the next one; 0 if there is none."""
        return int(lib.take_signal(self._descriptor))
