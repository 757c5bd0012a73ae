"""Pidfds that threads share."""

from __future__ import annotations

import errno
import os
import threading


class SharedPidfd:
    """A pidfd that is closed once it was given up and no thread uses it any more: its number may be another process's then.

        with pidfd as descriptor:
            ...

    Entering it after it was given up raises ProcessLookupError: only of an ended process it is.
    """

    __slots__ = ("_descriptor", "_is_given_up", "_lock", "_users")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_given_up = False
        self._users = 0
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        with self._lock:
            if self._is_given_up:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            self._users += 1
        return self._descriptor

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._is_given_up and not self._users:
                os.close(self._descriptor)

    def give_up(self) -> None:
        """Close it when nobody uses it; any number of times."""
        with self._lock:
            if not self._is_given_up and not self._users:
                os.close(self._descriptor)
            self._is_given_up = True
