"""Errors of the command line itself."""

from __future__ import annotations

import errno
import os

from pyruntime.errors import HookFailedError


class CommandError(Exception):
    """The command cannot do what was asked; with the exit code that it ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def explain(error: Exception) -> str:
    """The message for people and engines. Docker's client tells 126 and 127 by the text of errno, and knows it as Go has it, in small
    letters. Hooks are told of by their number, since what is installed as one (for GPUs, say) is looked for by that in engines' logs."""
    if isinstance(error, OSError):
        if error.errno is None:
            return str(error)
        path = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return f"{path}{words_of(error.errno)}"
    number = getattr(error, "errno", 0)
    message = str(error)
    if isinstance(error, HookFailedError) and error.json_path is not None:
        kind, _, rest = error.json_path.removeprefix("$.hooks.").partition("[")
        message = f"error running {kind} hook #{rest.partition(']')[0]}: {message}"
    return f"{message.removesuffix(os.strerror(number))}{_text(number)}" if number and message.endswith(os.strerror(number)) else message


def words_of(number: int) -> str:
    """errno's name and text, as they stand at the end of messages."""
    return f"{errno.errorcode.get(number, f'errno {number}')}: {_text(number)}"


def _text(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
