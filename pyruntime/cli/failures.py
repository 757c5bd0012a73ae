"""Errors of the command line itself."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

from pyruntime.cli.words import text_of, words_of
from pyruntime.errors import HookFailedError, InvalidBundleError, SetupError

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options

_JOINING = frozenset({"open cgroup", "open tasks", "join cgroup"})
_MEMORY_POLICY = "$.linux.memoryPolicy."
_UNIFIED = "$.linux.resources.unified["


class CommandError(Exception):
    """The command cannot do what was asked."""


def repeat_failure(options: Options) -> NoReturn:
    """What the front end has failed with when it was too late to hand the command over. Raises CommandError."""
    raise CommandError(f"{options.doing} {options.object!r}: {words_of(options.number)}")


def explain(error: Exception) -> str:
    """The message for people and engines. Docker's client tells 126 and 127 by the text of errno, and knows it as Go has it, in small
    letters."""
    if isinstance(error, OSError):
        if error.errno is None:
            return str(error)
        path = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return f"{path}{words_of(error.errno)}"
    number = getattr(error, "errno", 0)
    message = str(error)
    known = _known_words(error)
    if known:
        message = f"{known}: {message}"
    return f"{message.removesuffix(os.strerror(number))}{text_of(number)}" if number and message.endswith(os.strerror(number)) else message


def _known_words(error: Exception) -> str:
    """What logs are searched for, because runc says it: hooks by their number (what is installed as one, for GPUs, say), the agent of
    seccomp, a cgroup that cannot be joined, files of `unified` that are not there, and memory policies by the part that is wrong."""
    if isinstance(error, HookFailedError) and error.json_path is not None:
        kind, _, rest = error.json_path.removeprefix("$.hooks.").partition("[")
        return f"error running {kind} hook #{rest.partition(']')[0]}"
    if isinstance(error, SetupError) and error.step == "look at listener":
        return "failed to connect with seccomp agent"
    if isinstance(error, SetupError) and error.step in _JOINING and error.json_path == "$.linux.cgroupsPath":
        return "error adding pid to cgroup"
    if isinstance(error, SetupError) and error.errno == errno.ENOENT and (error.json_path or "").startswith(_UNIFIED):
        return "invalid configuration"
    place = error.json_path if isinstance(error, InvalidBundleError) else None
    if place is not None and place.startswith(_MEMORY_POLICY):
        part, is_one, _ = place.removeprefix(_MEMORY_POLICY).partition("[")
        return f"invalid memory policy {part.removesuffix('s') if is_one else part}"
    return ""
