"""What is told besides: warnings, and what is done.

All of it goes to the logger `pyruntime` of the module `logging`, which prints nothing unless the program that uses it configures it. Where
nobody has imported that module nobody listens to a logger, and it is not imported to find that out.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

# those of `logging`
_LEVELS = {"debug": 10, "warning": 30, "error": 40}

Listener = Callable[[str, str], None]


class Notices:
    """Methods are those of logging.Logger."""

    def __init__(self) -> None:
        self._listeners: list[tuple[int, Listener]] = []
        self._logger: logging.Logger | None = None
        self._find_logger()

    def debug(self, message: str, *details: object) -> None:
        """What was done."""
        self._tell("debug", message, details)

    def warning(self, message: str, *details: object) -> None:
        """What is not as it should be."""
        self._tell("warning", message, details)

    def exception(self, message: str, *details: object) -> None:
        """A defect, with the exception that is being handled."""
        self._tell("error", message, details, has_failed=True)

    def is_told(self, level: str) -> bool:
        """Whether anybody hears of such: else what takes work to say need not be said."""
        logger = self._logger or self._find_logger()
        return any(_LEVELS[level] >= lowest for lowest, _ in self._listeners) or logger is not None and logger.isEnabledFor(_LEVELS[level])

    @contextlib.contextmanager
    def told_to(self, listener: Listener, lowest: str) -> Iterator[None]:
        """Who listens without a logger is called with the level and the message of what is at least as grave as `lowest`."""
        entry = (_LEVELS[lowest], listener)
        self._listeners.append(entry)
        try:
            yield
        finally:
            self._listeners.remove(entry)

    def _tell(self, level: str, message: str, details: tuple[object, ...], has_failed: bool = False) -> None:
        for lowest, listener in self._listeners:
            if _LEVELS[level] >= lowest:
                listener(level, message % details if details else message)
        logger = self._logger or self._find_logger()
        if logger is not None:
            # the record names who has called debug, warning or exception
            logger.log(_LEVELS[level], message, *details, exc_info=has_failed or None, stacklevel=3)

    def _find_logger(self) -> logging.Logger | None:
        if "logging" in sys.modules:
            import logging

            self._logger = logging.getLogger("pyruntime")
            self._logger.addHandler(logging.NullHandler())
        return self._logger


log = Notices()
