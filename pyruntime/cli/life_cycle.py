"""create, start, run, kill, pause, resume, delete."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyruntime.cli.called import refuse_as_runc
from pyruntime.cli.failures import CommandError
from pyruntime.cli.kept import plan_file
from pyruntime.cli.streams import PidFile, console_socket, hand_over_terminal, inherited, pidfd_socket, terminal_of
from pyruntime.cli.words import words_of
from pyruntime.errors import ContainerNotFoundError, NotRunningError, NotStoppedError
from pyruntime.interface import Status

if TYPE_CHECKING:
    from pyruntime.cli.notify import Notifications
    from pyruntime.cli.plain import Options
    from pyruntime.interface import StdioOptions
    from pyruntime.runtimes.native import NativeRuntime


def create(runtime: NativeRuntime, options: Options) -> int:
    """Leave a created container, whose terminal somebody else has."""
    stdio = inherited(options)
    with PidFile(options.pid_file) as pid_file:
        pid = _create(runtime, options, stdio, detaches=True)
        with deleted_on_failure(runtime, options.id):
            pid_file.write(pid)
    return 0


def _create(runtime: NativeRuntime, options: Options, stdio: StdioOptions, *, detaches: bool) -> int:
    """Init's pid."""
    if options.console_socket and not detaches:
        raise CommandError("--console-socket is for containers that the command does not wait for")
    refuse_as_runc(options.bundle)
    with contextlib.ExitStack() as held:
        console = console_socket(options, held)
        file = plan_file(options)
        pidfds = pidfd_socket(options, held)
        pid = runtime.create_container(options.id, options.bundle, stdio, no_pivot=options.no_pivot,
                                       keeps_keyring=options.no_new_keyring, finds_program=True, environment=options.environment,
                                       notifies=_is_notified())
        with deleted_on_failure(runtime, options.id):
            if detaches:
                hand_over_terminal(terminal_of(runtime, options.id, pid), console)
            if pidfds is not None:
                pidfds.send(pid)
        if file is not None and not options.environment and not _is_notified():
            runtime.keep_plan(file, options.id, bundle_path=options.bundle, no_pivot=options.no_pivot, keeps_keyring=options.no_new_keyring)
    return pid


def run(runtime: NativeRuntime, options: Options) -> int:
    """The exit code of the container's program; 0 for a detached one once it runs."""
    stdio = inherited(options)
    with PidFile(options.pid_file) as pid_file:
        return _run_detached(runtime, options, stdio, pid_file) if options.detach else _run_attached(runtime, options, stdio, pid_file)


def _run_detached(runtime: NativeRuntime, options: Options, stdio: StdioOptions, pid_file: PidFile) -> int:
    pid = _create(runtime, options, stdio, detaches=True)
    with deleted_on_failure(runtime, options.id):
        _start_until_ready(runtime, options.id, pid, pid_file)
    return 0


def _run_attached(runtime: NativeRuntime, options: Options, stdio: StdioOptions, pid_file: PidFile) -> int:
    from pyruntime.cli.attached import follow, relay_of
    from pyruntime.native.signals import CaughtSignals

    with CaughtSignals() as signals:
        pid = _create(runtime, options, stdio, detaches=False)
        with (deleted_on_failure(runtime, options.id), relay_of(terminal_of(runtime, options.id, pid)) as relay,
              _notifications(runtime, options.id) as told):
            runtime.start_container(options.id)
            pid_file.write(pid)
            follow(runtime, options.id, pid, signals, relay, told)
            exit_state = runtime.wait_on_container(options.id)
        if not options.keep:
            runtime.delete_container(options.id)
    return exit_state.exit_code


@contextlib.contextmanager
def deleted_on_failure(runtime: NativeRuntime, id: str) -> Iterator[None]:
    """What cannot be handed to the caller is not left."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ContainerNotFoundError):  # a failed start has removed it
            runtime.delete_container(id, force=True)
        raise


def start(runtime: NativeRuntime, options: Options) -> int:
    """Returns once the program is executed; with NOTIFY_SOCKET, if the container was created with it too, once it is ready."""
    if _is_notified() and (state := runtime.get_container_state(options.id)).status is Status.CREATED:
        _start_until_ready(runtime, options.id, state.pid)
    else:
        # one that does not wait for its start is refused, and whoever has started it may have a socket there
        runtime.start_container(options.id)
    return 0


def _start_until_ready(runtime: NativeRuntime, id: str, pid: int, pid_file: PidFile | None = None) -> None:
    with _notifications(runtime, id) as told, contextlib.ExitStack() as held:
        pidfd = None
        if told is not None:
            with contextlib.suppress(ProcessLookupError):  # starting it says what is wrong
                pidfd = os.pidfd_open(pid)
                held.callback(os.close, pidfd)
        runtime.start_container(id)
        if pid_file is not None:
            pid_file.write(pid)
        if told is not None and pidfd is not None:
            told.await_ready(pid, pidfd)


def _is_notified() -> bool:
    """Whether somebody waits for what the program says of itself (sd_notify(3))."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def _notifications(runtime: NativeRuntime, id: str) -> contextlib.AbstractContextManager[Notifications | None]:
    if not _is_notified():
        return contextlib.nullcontext()
    from pyruntime.cli.notify import notifications  # few are

    return notifications(runtime, id)


def kill(runtime: NativeRuntime, options: Options) -> int:
    """Engines tell by the words that there is nothing to kill any more: by errno's, and containerd also by runc's."""
    number = signal_number(options.signal)
    if options.all:
        runtime.signal_all(options.id, number)
        return 0
    try:
        runtime.kill_container(options.id, number)
    except NotRunningError as error:
        raise CommandError(f"{error}: container not running: {words_of(errno.ESRCH)}") from error
    return 0


def pause(runtime: NativeRuntime, options: Options) -> int:
    """Returns once all processes have stopped."""
    runtime.pause_container(options.id)
    return 0


def resume(runtime: NativeRuntime, options: Options) -> int:
    """The opposite of pause."""
    runtime.resume_container(options.id)
    return 0


def delete(runtime: NativeRuntime, options: Options) -> int:
    """One that was never started too, as engines expect. By force, a container that does not exist is no error."""
    try:
        runtime.delete_container(options.id, force=options.force)
    except ContainerNotFoundError:
        if not options.force:
            raise
    except NotStoppedError as error:
        if error.status != Status.CREATED:
            raise
        runtime.delete_container(options.id, force=True)
    return 0


def signal_number(text: str) -> int:
    """`9`, `KILL`, `SIGKILL` and `sigkill` are 9. Raises CommandError."""
    import signal

    if text.isascii() and text.isdigit():
        if int(text) < signal.NSIG:
            return int(text)
    else:
        name = text.upper()
        with contextlib.suppress(KeyError):
            return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    raise CommandError(f"{text!r} is not a signal")
