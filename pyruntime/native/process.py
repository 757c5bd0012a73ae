"""Processes: making them from plans, talking to their init, waiting for them."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator

import msgspec

from pyruntime._native import ffi, lib
from pyruntime.errors import InitDiedError, SetupError
from pyruntime.interface import ProcessExitState
from pyruntime.native.encoder import EncodedPlan
from pyruntime.plan.operations import ExecuteProgram, Operation, step_of

MESSAGE_READY = int(lib.MESSAGE_READY)
MESSAGE_EXECUTING = int(lib.MESSAGE_EXECUTING)
# of setting up a process: longer than mounting and reading from slow servers takes
SETUP_TIMEOUT_S = 60.0
REAPING_TIMEOUT_MS = 1000
_CLD_EXITED = 1

_init_lock = threading.Lock()
_init_fd = -1


def _get_init() -> int:
    """The sealed memfd with the static init: one per process, kept for ever; a forked child may go on using it."""
    global _init_fd
    with _init_lock:
        if _init_fd < 0:
            fd = lib.open_init()
            if fd < 0:
                raise SetupError("make the init's memfd", None, -fd, None)
            _init_fd = fd
    return _init_fd


class Spawned(msgspec.Struct):
    """A process that the init runs in. Descriptors are owned by whoever holds this; -1 where there is none.

    subject_id      the container's id, for the plan's texts in errors
    has_successor   whether another process has taken the place of the one that was cloned
    said            types of the messages that came
    failure         the last one that it told
    """

    encoded: EncodedPlan
    subject_id: str
    pid: int
    pidfd: int
    wire: int
    console: int = -1
    has_successor: bool = False
    said: set[int] = msgspec.field(default_factory=set)
    failure: SetupError | None = None

    def close(self) -> None:
        """Close what is still held."""
        for name in ("pidfd", "wire", "console"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def _failure(operation: Operation | None, error: int, detail: str, encoded: EncodedPlan | None = None,
             id: str = "") -> SetupError:
    if operation is None:
        return SetupError("set up the process", None, error, None, detail)
    subject = operation.subject()
    if subject is not None and encoded is not None and encoded.holes:
        subject = subject.replace("\0" * encoded.hole_size, id)
    if isinstance(operation, ExecuteProgram):
        detail = ""  # the program, again
    return SetupError(step_of(operation), subject, error, operation.json_path or None, detail)


def _text(detail: object) -> str:
    return bytes(ffi.string(detail)).decode(errors="backslashreplace")


def spawn(encoded: EncodedPlan, id: str, stdio: tuple[int, int, int], descriptors: tuple[int, ...] = ()) -> Spawned:
    """Run the plan's host operations and start its init. Raises SetupError; then nothing of the process is left.

    descriptors   what the plan's PassDescriptor operations pass on, by index
    """
    plan = encoded.plan
    data = encoded.fill(id.encode())
    result = ffi.new("struct spawn_result *")
    cgroup = -1 if plan.cgroup is None else plan.cgroup.index
    error = lib.spawn_process(ffi.from_buffer(data), len(data), plan.clone_flags, _get_init(), cgroup, stdio,
                              descriptors, len(descriptors), result)
    if error:
        operations = {lib.SPAWN_HOST: plan.host, lib.SPAWN_CHILD: plan.child}.get(result.phase, ())
        index = result.operation
        raise _failure(operations[index] if 0 <= index < len(operations) else None, -error, _text(result.detail),
                       encoded, id)
    return Spawned(encoded, id, result.pid, result.pidfd, result.wire)


def await_successor(spawned: Spawned) -> bool:
    """Wait until another process has taken the first one's place, where the plan `hands_over`; false if that failed, which
    `follow` then tells. `pid` and `pidfd` are the successor's afterwards."""
    with _discarding(spawned):
        while not spawned.has_successor and _await_socket(spawned.wire, any_message=True):
            if _take_messages(spawned):
                break
    return spawned.has_successor


def follow(spawned: Spawned, until: int) -> None:
    """Read the init's messages to the end of the wire; fills in the console and, where the process moved to another pid
    namespace, its new pid.

    until: what must have been said by then: MESSAGE_READY, or MESSAGE_EXECUTING for a process that is not started separately
    Raises SetupError, InitDiedError; the process is then killed and reaped.
    """
    with _discarding(spawned):
        # the init closes its wire when it is ready or executes
        if _await_socket(spawned.wire):
            _take_messages(spawned)
        else:
            # a process of the container that this one joins can stop it for ever
            spawned.failure = SetupError("set up the process", None, errno.ETIMEDOUT, None,
                                         f"the init is not ready after {SETUP_TIMEOUT_S} s")
    if spawned.failure is None and until in spawned.said:
        os.close(spawned.wire)
        spawned.wire = -1
        return
    died = discard(spawned)
    if spawned.failure is not None:
        raise spawned.failure
    how = "it ended without saying why" if died is None else (
        f"it was killed by signal {died.signal}" if died.signal else f"it exited with {died.exit_code}")
    raise InitDiedError("set up the process", None, f"the container's init died: {how}",
                        died.exit_code if died else None, died.signal if died else None)


@contextlib.contextmanager
def _discarding(spawned: Spawned) -> Iterator[None]:
    try:
        yield
    except BaseException:
        discard(spawned)
        raise


def _take_messages(spawned: Spawned) -> bool:
    """What has been said so far; whether that is all."""
    plan = spawned.encoded.plan
    message = ffi.new("struct message *")
    descriptor = ffi.new("int *")
    while (got := lib.receive_message(spawned.wire, message, descriptor)) == 1:
        kind = message.type
        spawned.said.add(kind)
        if kind == lib.MESSAGE_FAILURE:
            index = message.operation
            operation = plan.init[index] if 0 <= index < len(plan.init) else None
            spawned.failure = _failure(operation, message.error, _text(message.detail), spawned.encoded, spawned.subject_id)
        elif kind == lib.MESSAGE_CONSOLE and spawned.console < 0:
            spawned.console, descriptor[0] = descriptor[0], -1
        elif kind == lib.MESSAGE_PROCESS and plan.hands_over and message.sender == spawned.pid and not spawned.has_successor:
            # from the first process only: its successor may be traced by then, and say anything
            spawned.has_successor = True
            first, spawned.pid, spawned.pidfd = spawned.pidfd, message.pid, descriptor[0]
            descriptor[0] = -1
            # it ends at once, or was killed; the program is not to find it among the processes of its cgroup
            reap(first)
            os.close(first)
            lib.release_process(spawned.wire)
        if descriptor[0] >= 0:
            os.close(descriptor[0])
    return bool(got == 0)


def _await_socket(socket: int, any_message: bool = False) -> bool:
    """Until it is closed by the other side, or has a message; false after SETUP_TIMEOUT_S."""
    deadline = time.monotonic() + SETUP_TIMEOUT_S
    while True:
        left_ms = max(0, int((deadline - time.monotonic()) * 1000))
        got = int(lib.await_descriptor(socket, any_message, left_ms))
        if got >= 0:
            return got == 1
        if got != -errno.EINTR:
            raise OSError(-got, os.strerror(-got))


def discard(spawned: Spawned) -> ProcessExitState | None:
    """Kill and reap it, unless that was done, and close what is held."""
    if spawned.pidfd < 0:
        return None
    lib.signal_pidfd(spawned.pidfd, 9)
    exit_state = reap(spawned.pidfd)
    if spawned.wire >= 0 and not spawned.has_successor:
        # what the first process said before it was killed tells of its successor, if there is one by now
        first = spawned.pidfd
        _take_messages(spawned)
        if spawned.pidfd != first:
            lib.signal_pidfd(spawned.pidfd, 9)
            exit_state = reap(spawned.pidfd)
    spawned.close()
    return exit_state


def start(directory: str, name: str) -> SetupError | None:
    """Let a created container's init go on; returns why the program could not be executed, None if it runs.

    directory, name   of the start socket
    Raises OSError where nobody listens.
    """
    connection = lib.connect_start(os.fsencode(directory), name.encode())
    if connection < 0:
        raise OSError(-connection, os.strerror(-connection), f"{directory}/{name}")
    failure: SetupError | None = None
    try:
        if not _await_socket(connection):
            return SetupError("execute program", None, errno.ETIMEDOUT, "$.process.args",
                              f"nothing is executed after {SETUP_TIMEOUT_S} s")
        message = ffi.new("struct message *")
        descriptor = ffi.new("int *")
        while lib.receive_message(connection, message, descriptor) == 1:
            if descriptor[0] >= 0:
                os.close(descriptor[0])
            if message.type == lib.MESSAGE_FAILURE:
                failure = SetupError("execute program", _text(message.detail), message.error, "$.process.args")
    finally:
        os.close(connection)
    return failure


def wait_until_ended(pidfd: int, timeout_s: float | None = None) -> bool:
    """Block until the process is a zombie or gone; signals are handled meanwhile. False: not within the time."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_ms = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
        got = lib.poll_pidfd(pidfd, left_ms)
        if got >= 0:
            return bool(got == 1)
        if got != -errno.EINTR:
            raise OSError(-got, os.strerror(-got))


def has_ended(pidfd: int) -> bool:
    """Whether the process is a zombie or gone."""
    return bool(lib.poll_pidfd(pidfd, 0) == 1)


def _exit_state(report: object) -> ProcessExitState:
    code, status = report.code, report.status  # type: ignore[attr-defined]  # cffi's structs have no static types
    signal = None if code == _CLD_EXITED else status
    exit_code = status if signal is None else 128 + signal
    if not report.has_usage:  # type: ignore[attr-defined]
        return ProcessExitState(exit_code, signal)
    return ProcessExitState(exit_code, signal, report.user_microseconds / 1e6,  # type: ignore[attr-defined]
                            report.system_microseconds / 1e6,  # type: ignore[attr-defined]
                            report.peak_kibibytes * 1024)  # type: ignore[attr-defined]


def reap(pidfd: int) -> ProcessExitState | None:
    """Reap an ended child; where it is not ours (any more) what the kernel keeps of it. None: not known.

    Blocks while the process is traced: its tracer is told first.
    """
    report = ffi.new("struct exit_report *")
    while (got := lib.reap_pidfd(pidfd, report)) == -errno.EINTR:
        pass
    if got == -errno.ECHILD:
        got = lib.inspect_pidfd(pidfd, report)
        if got == -errno.ENODATA:
            # whoever reaps it is at it
            lib.await_descriptor(pidfd, False, REAPING_TIMEOUT_MS)
            got = lib.inspect_pidfd(pidfd, report)
    return _exit_state(report[0]) if got == 0 else None


def open_pidfd(pid: int) -> int:
    """Raises ProcessLookupError."""
    fd = int(lib.open_pidfd(pid))
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), f"pid {pid}")
    return fd


def send_signal(pidfd: int, signal: int) -> None:
    """Raises ProcessLookupError, ValueError for what is no signal."""
    error = lib.signal_pidfd(pidfd, signal)
    if error == -errno.EINVAL:
        raise ValueError(f"{signal} is not a signal")
    if error:
        raise OSError(-error, os.strerror(-error))


def detach_mount(mount_namespace: int, path: str) -> int:
    """Detach what is mounted at a path of a mount namespace. The errno, 0 for success."""
    return -int(lib.detach_mount(mount_namespace, os.fsencode(path)))


def resize_terminal(fd: int, width: int, height: int) -> None:
    """Set a terminal's size, in characters."""
    error = lib.set_terminal_size(fd, width, height)
    if error:
        raise OSError(-error, os.strerror(-error))
