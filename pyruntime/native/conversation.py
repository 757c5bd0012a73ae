"""What an init says while it sets a process up, and how it is told in words."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any

from pyruntime._native import ffi, lib
from pyruntime.errors import HookFailedError, SetupError
from pyruntime.native.hook_end import HookEnd

CLD_EXITED = 1


def new_conversation(pid: int = 0, pidfd: int = -1) -> Any:
    heard = ffi.new("struct conversation *")
    heard.pid, heard.pidfd, heard.console, heard.listener = pid, pidfd, -1, -1
    return heard


def has_said(heard: Any, kind: int) -> bool:
    return bool(heard.said >> kind & 1)


def attend(call: Callable[[int], int], timeout_s: float, hook_limit_s: int | None = 0) -> bool:
    """Until the call, which is given milliseconds, has heard what it waits for; false after timeout_s, and what hooks may take besides
    (None: for ever). Raises OSError."""
    deadline = None if hook_limit_s is None else time.monotonic() + timeout_s + hook_limit_s
    while True:
        got = int(call(-1 if deadline is None else min(max(0, int((deadline - time.monotonic()) * 1000)), 2**31 - 1)))
        if got >= 0:
            return got == 1
        if got != -errno.EINTR:
            raise OSError(-got, os.strerror(-got))


def hook_failure(heard: Any, path: str, json_path: str, timeout_s: int | None) -> HookFailedError:
    """What an init says of a hook in the container."""
    if heard.error != lib.HOOK_FAILED:
        return HookFailedError(path, heard.error, f"{json_path}.path", text_of(heard.detail))
    is_late, exited = heard.hook.code == lib.HOOK_TIMEOUT, heard.hook.code == CLD_EXITED
    end = HookEnd(heard.hook.status if exited else None, None if exited or is_late else heard.hook.status, is_late,
                  bytes(ffi.string(heard.detail)))
    return end.failure(path, json_path, timeout_s)


def program_failure(path: str | None, error: int, json_path: str | None) -> SetupError:
    """What an init says of a program that it could not execute."""
    if error != lib.NO_LOADER:
        return SetupError("execute program", path, error, json_path)
    return SetupError("execute program", path, errno.ENOENT, json_path, f"exec {path}: no such file or directory, though it is there: the "
                      "interpreter that its first line names, or its loader, is not")


def text_of(detail: object) -> str:
    return bytes(ffi.string(detail)).decode(errors="backslashreplace")
