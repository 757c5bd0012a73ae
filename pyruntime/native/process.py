"""Processes: making them from plans, talking to their init, waiting for them."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable

from pyruntime._native import ffi, lib
from pyruntime.errors import InitDiedError, SetupError
from pyruntime.interface import ProcessExitState
from pyruntime.native.conversation import CLD_EXITED, attend, has_said, hook_failure, new_conversation, program_failure, text_of
from pyruntime.native.encoder import EncodedPlan
from pyruntime.plan.operation import Operation, step_of
from pyruntime.plan.operations import FindProgram, RunHook

MESSAGE_READY = int(lib.MESSAGE_READY)
MESSAGE_EXECUTING = int(lib.MESSAGE_EXECUTING)
# of setting up a process: longer than mounting and reading from slow servers takes
SETUP_TIMEOUT_S = 60.0
REAPING_TIMEOUT_MS = 1000
SIGKILL = 9  # the module signal makes enumerations of all that there are

_init_lock = threading.Lock()
_init_fd = -1
# Held while the caller forks, which waits until no other thread is in a call that makes a process: the child would have a copy of the end of
# the wire that is the init's, and the parent would not see that the init has closed it.
_forks = threading.Condition()
_spawning: set[int] = set()


def _await_spawning() -> None:
    _forks.acquire()
    while _spawning - {threading.get_ident()}:
        _forks.wait()


def _renew_locks() -> None:
    """A thread that held one is not in a forked child, which would wait for it for ever."""
    global _init_lock, _forks
    _init_lock, _forks = threading.Lock(), threading.Condition()
    _spawning.clear()


os.register_at_fork(before=_await_spawning, after_in_parent=lambda: _forks.release(), after_in_child=_renew_locks)


def _get_init(lost: int = -1) -> int:
    """The sealed memfd with the static init: one per process, kept for ever; a forked child may go on using it.

    lost   what is no longer it, because the caller has closed it
    """
    global _init_fd
    with _init_lock:
        if _init_fd in (-1, lost):
            fd = lib.open_init()
            if fd < 0:
                raise SetupError("make the init's memfd", None, -fd, None)
            _init_fd = fd
    return _init_fd


class Spawned:
    """A process that the init runs in. Descriptors are owned by whoever holds this; -1 where there is none.

    pid   of the process that was cloned, until another one has taken its place (`await_successor`, `follow`)
    """

    def __init__(self, encoded: EncodedPlan, subject_id: str, pid: int, pidfd: int, wire: int) -> None:
        self._encoded = encoded
        self._subject_id = subject_id
        self._wire = wire
        self._heard = new_conversation(pid, pidfd)

    @property
    def pid(self) -> int:
        return int(self._heard.pid)

    @property
    def pidfd(self) -> int:
        """-1 once it was given away."""
        return int(self._heard.pidfd)

    @property
    def console(self) -> int:
        """The pty master that the init has sent; -1 where there is none."""
        return int(self._heard.console)

    def take_pidfd(self) -> int:
        """Give the pidfd away."""
        return self._take("pidfd")

    def take_console(self) -> int:
        """Give the pty master away."""
        return self._take("console")

    def _take(self, name: str) -> int:
        descriptor = int(getattr(self._heard, name))
        setattr(self._heard, name, -1)
        return descriptor

    def await_successor(self) -> bool:
        """Wait until another process has taken the first one's place, where the plan `hands_over`; false if that failed, which
        `follow` then tells."""
        if not self._heard.has_successor:
            self._attend(lib.SUCCESSION_AWAITED)
        return bool(self._heard.has_successor)

    def await_hooks(self) -> bool:
        """Wait until the init waits for the host to run hooks, where the plan `awaits_hooks`; false if that failed, which `follow` then
        tells."""
        return self._await(lib.MESSAGE_HOOKS)

    def await_network(self) -> bool:
        """The same for its network namespaces, where the plan has `net_devices`."""
        return self._await(lib.MESSAGE_NETWORK)

    def _await(self, kind: int) -> bool:
        self._heard.awaited = 1 << kind
        self._attend(self._succession())
        self._heard.awaited = 0
        return has_said(self._heard, kind)

    def release(self) -> None:
        """Let it go on."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `follow` tells
            os.write(self._wire, b"\0")

    def _succession(self) -> int:
        plan = self._encoded.plan
        return int(lib.SUCCESSION_RELEASED if plan.releases else lib.SUCCESSION_BELIEVED if plan.hands_over else lib.SUCCESSION_NONE)

    def follow(self, until: int, pass_on: Callable[[int, int], None] | None = None,
               schedule: Callable[[int], None] | None = None) -> None:
        """Read the init's messages to the end of the wire.

        until     what must have been said by then: MESSAGE_READY, or MESSAGE_EXECUTING for a process that is not started separately
        pass_on   is given the descriptor of a filter that somebody is notified of, and a pid; the process waits until it returns
        schedule  is given the pid where the plan has an AwaitScheduling
        Raises SetupError, InitDiedError; the process is then killed and reaped.
        """
        heard, plan = self._heard, self._encoded.plan
        # the init closes its wire when it is ready or executes
        heard.expects_listener = pass_on is not None
        heard.awaited = 0 if schedule is None else 1 << lib.MESSAGE_SET_UP
        in_time = self._attend(self._succession(), plan.hook_limit_s)
        while in_time:
            try:
                if pass_on is not None and heard.listener >= 0:
                    heard.expects_listener = 0
                    pass_on(self._take("listener"), self.pid)
                elif schedule is not None and heard.awaited and has_said(heard, lib.MESSAGE_SET_UP):
                    heard.awaited = 0
                    schedule(self.pid)
                else:
                    break
            except BaseException:
                self.discard()
                raise
            lib.release_process(self._wire)
            in_time = self._attend(self._succession(), plan.hook_limit_s)
        has_failed = has_said(heard, lib.MESSAGE_FAILURE)
        if in_time and has_said(heard, until) and not has_failed:
            if heard.console >= 0 and not plan.opens_console:
                os.close(self.take_console())  # of one that can be traced by the container, and that nobody asked for
            self._close_wire()
            return
        died = self.discard()
        if not in_time:
            # a process of the container that this one joins can stop it for ever
            raise SetupError("set up the process", None, errno.ETIMEDOUT, None, f"the init is not ready after {SETUP_TIMEOUT_S} s")
        if has_failed:
            operation = plan.init[heard.operation] if 0 <= heard.operation < len(plan.init) else None
            if isinstance(operation, RunHook):
                raise hook_failure(heard, operation.subject(), operation.json_path, operation.timeout_s)
            raise _failure(operation, heard.error, text_of(heard.detail), self._encoded, self._subject_id)
        how = "it ended without saying why" if died is None else (
            f"it was killed by signal {died.signal}" if died.signal else f"it exited with {died.exit_code}")
        raise InitDiedError("set up the process", None, f"the container's init died: {how}",
                            died.exit_code if died else None, died.signal if died else None)

    def discard(self) -> ProcessExitState | None:
        """Kill and reap it, unless that was done, and close what is held."""
        heard, exit_state = self._heard, None
        if heard.pidfd >= 0:
            exit_state = _kill(heard.pidfd)
            if self._wire >= 0 and self._encoded.plan.hands_over and not heard.has_successor:
                # what the first process said before it was killed tells of its successor, if there is one by now
                lib.listen_to_init(self._wire, lib.SUCCESSION_BELIEVED, heard)
                if heard.has_successor:
                    exit_state = _kill(heard.pidfd)
        for descriptor in (self.take_pidfd(), self.take_console(), self._take("listener")):
            if descriptor >= 0:
                os.close(descriptor)
        self._close_wire()
        return exit_state

    def _close_wire(self) -> None:
        wire, self._wire = self._wire, -1
        if wire >= 0:
            os.close(wire)

    def _attend(self, succession: int, hook_limit_s: int | None = 0) -> bool:
        try:
            return attend(lambda left_ms: lib.attend_init(self._wire, succession, left_ms, self._heard), SETUP_TIMEOUT_S, hook_limit_s)
        except BaseException:
            self.discard()
            raise


def _kill(pidfd: int) -> ProcessExitState | None:
    lib.signal_pidfd(pidfd, 9)
    return reap(pidfd)


def _failure(operation: Operation | None, error: int, detail: str, encoded: EncodedPlan | None = None,
             id: str = "") -> SetupError:
    if operation is None:
        return SetupError("set up the process", None, error, None, detail)
    if error == lib.NOT_HELD:
        error = 0  # it was no system call that failed
    subject = operation.subject()
    if subject is not None and encoded is not None and encoded.holes:
        subject = subject.replace("\0" * encoded.hole_size, id)
    if isinstance(operation, FindProgram):
        # the subject is the program already
        return program_failure(subject, error, operation.json_path or None)
    return SetupError(step_of(operation), subject, error, operation.json_path or None, detail)


def spawn(encoded: EncodedPlan, id: str, stdio: tuple[int, int, int], descriptors: tuple[int, ...] = ()) -> Spawned:
    """Run the plan's host operations and start its init. Raises SetupError; then nothing of the process is left.

    descriptors   what the plan's PassDescriptor operations pass on, by index
    """
    plan = encoded.plan
    data = encoded.fill(id.encode())
    result = ffi.new("struct spawn_result *", {"pid": -1, "pidfd": -1, "wire": -1})
    cgroup = -1 if plan.cgroup is None else plan.cgroup.index
    init = _get_init()
    thread = threading.get_ident()
    with _forks:
        _spawning.add(thread)
    try:
        while (error := lib.spawn_process(ffi.from_buffer(data), len(data), plan.clone_flags, init, cgroup, stdio,
                                          descriptors, len(descriptors), int(SETUP_TIMEOUT_S * 1000), result)) == -errno.EBADFD:
            init = _get_init(lost=init)
        if error:
            operations = {lib.SPAWN_HOST: plan.host, lib.SPAWN_CHILD: plan.child}.get(result.phase, ())
            index = result.operation
            raise _failure(operations[index] if 0 <= index < len(operations) else None, -error, text_of(result.detail),
                           encoded, id)
        return Spawned(encoded, id, result.pid, result.pidfd, result.wire)
    except BaseException:
        if result.pidfd >= 0:  # a signal's handler has raised
            Spawned(encoded, id, result.pid, result.pidfd, result.wire).discard()
        raise
    finally:
        with _forks:
            _spawning.discard(thread)
            _forks.notify_all()


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
    signal = None if code == CLD_EXITED else status
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
            lib.poll_reaping(pidfd, REAPING_TIMEOUT_MS)
            got = lib.inspect_pidfd(pidfd, report)
    return _exit_state(report[0]) if got == 0 else None


def open_pidfd(pid: int) -> int:
    """Raises ProcessLookupError."""
    fd = int(lib.open_pidfd(pid))
    # of a pid whose process is being reaped in this moment older kernels say EINVAL
    fd = -errno.ESRCH if fd == -errno.EINVAL else fd
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), f"pid {pid}")
    return fd


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot (proc_pid_stat(5), field 22); 0 if there is none."""
    return max(0, int(lib.read_start_time(pid)))


def is_alive(pid: int, start_time: int) -> bool:
    """Whether that very process runs: not a zombie, and not another one with its pid."""
    return bool(_checked(lib.is_alive(pid, start_time)))


def awaits_start(directory: str, name: str, pid: int) -> bool:
    """Whether the container's init of that pid has not been started; directory and name are the start socket's."""
    return bool(_checked(lib.awaits_start(os.fsencode(directory), name.encode(), pid)))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


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


def open_netlink(pidfd: int) -> int:
    """A netlink socket (NETLINK_ROUTE) of the network namespace that a process is in. Raises OSError."""
    descriptor = int(lib.open_netlink(pidfd))
    if descriptor < 0:
        raise OSError(-descriptor, os.strerror(-descriptor))
    return descriptor


def resize_terminal(fd: int, width: int, height: int) -> None:
    """Set a terminal's size, in characters."""
    error = lib.set_terminal_size(fd, width, height)
    if error:
        raise OSError(-error, os.strerror(-error))
