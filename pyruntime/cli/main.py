"""One call of the command line, from the arguments to the exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyruntime import notices
from pyruntime.cli.arguments import WITHOUT_RUNTIME, Command, UsageError, cgroups_asked, parse_command, parse_global
from pyruntime.cli.failures import CommandError, explain
from pyruntime.cli.log import Log
from pyruntime.errors import ContainerRuntimeError

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime

    NewRuntime = Callable[[Options], NativeRuntime]


def open_runtime(options: Options) -> NativeRuntime:
    """The runtime that the global options ask for. Raises UnsupportedHostError, SetupError."""
    from pyruntime.runtimes.native import NativeRuntime

    systemd_cgroup, no_cgroups = cgroups_asked(options)
    return NativeRuntime(options.root, systemd_cgroup=systemd_cgroup, no_cgroups=no_cgroups)


def main(arguments: Sequence[str] | None = None, new_runtime: NewRuntime = open_runtime) -> int:
    """Run a command; the exit code is the process's for `run` and `exec`, 0, or one of those that runc has for errors. Raises OSError where
    standard output cannot be written."""
    _open_standard_streams()
    refused: UsageError | None = None
    try:
        options, rest = parse_global(sys.argv[1:] if arguments is None else list(arguments))
    except UsageError as error:
        return _refuse(Log(), error)
    options.arguments = sys.argv[1:] if arguments is None else None
    if options.version:
        from pyruntime.cli.version import print_version

        return print_version()
    if not rest:
        return 0
    try:
        command = parse_command(options, rest)
        if getattr(options, "activates", False):
            _take_listening_sockets(options)
    except UsageError as error:
        refused = error
    try:
        log = Log(options.log or None, options.log_format == "json", 3 + getattr(options, "preserve_fds", 0))
    except OSError as error:
        Log().error(f"open log {explain(error)}")
        return 1
    with log:
        return _refuse(log, refused) if refused is not None else _run(command, options, new_runtime, log)


def _run(command: Command, options: Options, new_runtime: NewRuntime, log: Log) -> int:
    module, _, name = command.handler.partition(":")
    try:
        with notices.log.told_to(log.write, "debug" if options.debug else "warning"):
            function = getattr(importlib.import_module(f"pyruntime.cli.{module}"), name)
            code: int = function(options) if name in WITHOUT_RUNTIME else function(new_runtime(options), options)
        return code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            log.record(explain(error))
            raise
        if options.debug:
            log.write("debug", f"where it failed:\n{_trace_of(error)}")
        # of what nobody has thought of whoever called hears as of all else
        is_known = isinstance(error, ContainerRuntimeError | CommandError | OSError)
        message = explain(error) if is_known else f"internal error: {type(error).__name__}: {error} (--debug tells where)"
        log.error(message, name, error)
        return command.failure_code
    except KeyboardInterrupt:
        return 130


def _is_unread() -> bool:
    """Whether nobody reads standard output any more."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _trace_of(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error)).rstrip("\n")


def _take_listening_sockets(options: Options) -> None:
    """Those that systemd or conmon has this command inherit for the container's program (sd_listen_fds(3)): they come first among what is
    passed on, and the program, which is the first process of its pid namespace, is told of them as this command was."""
    options.environment = ()
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal() and int(count):
        options.preserve_fds += int(count)
        names = os.environ.get("LISTEN_FDNAMES")
        options.environment = (f"LISTEN_FDS={count}", "LISTEN_PID=1", *([] if names is None else [f"LISTEN_FDNAMES={names}"]))


def _refuse(log: Log, error: UsageError) -> int:
    log.error(str(error))
    return error.exit_code


def _open_standard_streams() -> None:
    """What the caller has closed is the null device: it would be the number of the next file that is opened, and that of the container's
    stream too."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)
