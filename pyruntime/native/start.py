"""Starting a container that is created, whoever made it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from pyruntime._native import ffi, lib
from pyruntime.errors import InitDiedError, SetupError
from pyruntime.native import process
from pyruntime.native.conversation import attend, has_said, hook_failure, new_conversation, program_failure, text_of
from pyruntime.plan.seccomp import JSON_PATH as FILTER_PATH


def start(directory: str, name: str, hook_of: Callable[[int], tuple[str, int | None]],
          pass_on: Callable[[int, int], None] | None = None) -> tuple[SetupError | None, bool]:
    """Let a created container's init go on; returns why the program could not be executed, None if it runs, and whether there are
    hooks to run then.

    directory, name   of the start socket, which is removed
    hook_of           tells path and timeout of a startContainer hook that has failed
    pass_on           is given the descriptor of a filter that somebody is notified of; the process waits until it returns
    Raises OSError where nobody listens.
    """
    heard, connection = new_conversation(), ffi.new("int *", -1)
    heard.expects_listener = pass_on is not None
    arguments = os.fsencode(directory), name.encode()

    def listen(left_ms: int) -> int:
        got = int(lib.start_init(*arguments, left_ms, connection, heard))
        if got == 0 and lib.listen_to_init(connection[0], lib.SUCCESSION_NONE, heard) >= 0 and has_said(heard, lib.MESSAGE_HOOKS):
            # the init watches over its hooks itself
            return int(lib.start_init(*arguments, -1, connection, heard))
        return got

    try:
        while True:
            has_heard = attend(listen, process.SETUP_TIMEOUT_S)
            if pass_on is None or heard.listener < 0:
                break
            listener, heard.listener, heard.expects_listener = heard.listener, -1, 0
            pass_on(listener, -1)
            lib.release_process(connection[0])
    except SetupError as failure:
        return failure, has_said(heard, lib.MESSAGE_HOOKS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{directory}/{name}") from None
    finally:
        for descriptor in (connection[0], heard.console, heard.listener):
            if descriptor >= 0:
                os.close(descriptor)
    has_hooks = has_said(heard, lib.MESSAGE_HOOKS)
    if not has_heard:
        return SetupError("execute program", None, errno.ETIMEDOUT, "$.process.args",
                          f"nothing is executed after {process.SETUP_TIMEOUT_S} s"), has_hooks
    return _start_failure(heard, hook_of), has_hooks


def recorded_failure(data: bytes) -> SetupError | None:
    """Why the program could not be executed, of what the front end of the command line has written of it (native/front_life.c)."""
    if len(data) != ffi.sizeof("struct conversation"):
        return None
    return _start_failure(ffi.from_buffer("struct conversation *", data), lambda _: ("", None))


def _start_failure(heard: Any, hook_of: Callable[[int], tuple[str, int | None]]) -> SetupError | None:
    if not has_said(heard, lib.MESSAGE_FAILURE):
        if not has_said(heard, lib.MESSAGE_EXECUTING):
            return InitDiedError("execute program", "$.process.args", "the container's init died before it", None, None)
        return None
    if heard.hook.number > 0:
        index = heard.hook.number - 1
        path, timeout_s = hook_of(index)
        return hook_failure(heard, path, f"$.hooks.startContainer[{index}]", timeout_s)
    if heard.kind == lib.OP_INSTALL_FILTER:
        return SetupError("install filter", None, heard.error, FILTER_PATH, text_of(heard.detail))
    return program_failure(text_of(heard.detail), heard.error, "$.process.args")
