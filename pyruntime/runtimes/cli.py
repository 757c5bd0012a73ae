"""A runtime that drives an OCI command line: runc, crun, youki, or pyruntime's own."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal as _signal
import threading
from collections.abc import Sequence

import msgspec

from pyruntime.errors import (
    ContainerExistsError,
    ContainerNotFoundError,
    ContainerRuntimeError,
    DamagedStateError,
    ExitStatusUnknownError,
    NotCreatedError,
    NotPausedError,
    NotRunningError,
    NotStoppedError,
    ProcessNotFoundError,
    StateError,
    StillRunningError,
)
from pyruntime.handles import Container
from pyruntime.interface import (
    ContainerProcessState,
    ContainerState,
    ProcessExitState,
    ProcessLike,
    Status,
    StdioOptions,
    StdioPipes,
)
from pyruntime.notices import log
from pyruntime.plan.resources import limits_memory
from pyruntime.runtimes.bundle import open_bundle
from pyruntime.runtimes.cli_command import (
    CommandFailedError,
    Scratch,
    explain_failure,
    run_command,
    says_exists,
    says_not_found,
)
from pyruntime.runtimes.cli_records import KnownContainer, KnownProcess, read_process
from pyruntime.runtimes.reaper import become_subreaper
from pyruntime.runtimes.stdio import PreparedStdio
from pyruntime.runtimes.terminal import resize_terminal
from pyruntime.spec import Process, decode_process
from pyruntime.state.store import check_id

_LIVE = frozenset((Status.CREATED, Status.RUNNING, Status.PAUSED))


class _Reported(msgspec.Struct, rename="camel"):
    """What `state` and `list` print. runc leaves nothing out, crun `ociVersion` and `rootfs` of `list`."""

    id: str
    status: Status
    pid: int = 0
    bundle: str = ""
    oci_version: str = ""
    rootfs: str = ""
    created: datetime.datetime | None = None
    annotations: dict[str, str] | None = None

    def is_complete(self) -> bool:
        return bool(self.oci_version and self.rootfs and self.created)


class CliRuntime:
    """The Runtime interface on an OCI command line.

    command     the program, looked up in PATH
    root        its `--root`, with the containers that it has made for whomever
    arguments   further global options, such as `("--systemd-cgroup",)`
    subreaper   make this process a child subreaper (prctl(2)) at the first container, for good. A container is an orphan
                of the command that made it, and only its parent is told the exit status and the usage. Without it the
                status comes from what the kernel keeps (Linux 6.15), else waiting raises ExitStatusUnknownError. As a
                subreaper this process also inherits orphans that have nothing to do with containers.

    Processes that another process ran by exec are not known here to be the runtime's.
    """

    def __init__(self, command: str = "runc", root: str = "/run/pyruntime-cli", arguments: Sequence[str] = (), *,
                 subreaper: bool = True) -> None:
        self.root = os.path.abspath(root)
        self._command = [command, "--root", self.root, *arguments]
        self._subreaper = subreaper
        self._lock = threading.Lock()
        self._containers: dict[str, KnownContainer] = {}

    def container(self, id: str) -> Container:
        """The container as an object."""
        self._state(id)
        return Container(self, id)

    # life cycle

    def create_container(self, id: str, bundle_path: str, stdio_options: StdioOptions) -> int:
        """Raises ContainerExistsError, InvalidIdError, InvalidBundleError, SetupError.

        runc and crun also look for the program now, not at start.
        """
        check_id(id)
        bundle = open_bundle(bundle_path)
        process = bundle.spec.process
        if self._subreaper:
            become_subreaper()
        try:
            init = self._spawn(["create", "--bundle", bundle.path], id, process, stdio_options)
        except CommandFailedError as failure:
            if says_exists(failure.message):
                raise ContainerExistsError(id) from failure
            raise explain_failure(failure, process.cwd if process else "/") from failure
        known = KnownContainer(init, bundle.shares_pid_namespace, limits_memory(bundle.spec.linux.resources))
        known.remember_init(self._directory(id))
        with self._lock:
            self._containers[id] = known
        return init.pid

    def start_container(self, id: str) -> None:
        """Raises NotCreatedError, SetupError."""
        self._require("start", id, {Status.CREATED}, NotCreatedError)
        try:
            self._run("start", id)
        except CommandFailedError as failure:
            with contextlib.suppress(ContainerNotFoundError):  # our own command line has removed it already
                self._require("start", id, {Status.CREATED}, NotCreatedError)
                self.delete_container(id, force=True)
            raise explain_failure(failure, "/") from failure

    def kill_container(self, id: str, signal: int) -> None:
        """Raises NotRunningError unless it is created, running or paused."""
        self._act("kill", id, _LIVE, NotRunningError, str(int(signal)))

    def delete_container(self, id: str, force: bool = False) -> None:
        """Raises NotStoppedError (never with `force`)."""
        known = self._delete_by_force(id) if force else self._act("delete", id, {Status.STOPPED}, NotStoppedError)
        self._forget(id, known)

    def _delete_by_force(self, id: str) -> KnownContainer | None:
        try:
            state = self._state(id)
        except DamagedStateError:
            log.warning("container %r is damaged: left to the runtime to delete", id)
            known = self._containers.get(id)
        else:
            known = self._known(id, state)
            with contextlib.suppress(ProcessLookupError):
                known.init.watched.send_signal(_signal.SIGKILL)
            if state.status == Status.PAUSED:  # in a v1 freezer the signal waits
                with contextlib.suppress(CommandFailedError):
                    self._run("resume", id)
            known.init.watched.wait()
            known.kill_rest()
        try:
            self._run("delete", id, "--force")
        except CommandFailedError as failure:
            raise failure.untyped() from failure
        return known

    def pause_container(self, id: str) -> None:
        """Raises NotRunningError."""
        container = self._act("pause", id, {Status.RUNNING}, NotRunningError)
        # crun does not wait until a cgroup v1 freezer has stopped the last process, and `state` says running till then
        container.await_frozen()

    def resume_container(self, id: str) -> None:
        """Raises NotPausedError."""
        self._act("resume", id, {Status.PAUSED}, NotPausedError)

    # processes

    def exec_process(self, id: str, process: ProcessLike, stdio_options: StdioOptions) -> int:
        """Raises NotRunningError, InvalidBundleError, SetupError."""
        checked = decode_process(process)
        known = self._require("exec in", id, {Status.RUNNING}, NotRunningError)
        if self._subreaper:
            become_subreaper()
        with known.spawning:
            try:
                started = self._spawn(["exec", "--detach"], id, checked, stdio_options)
            except CommandFailedError as failure:
                known.collect_failed_exec(self._command[0])
                self._require("exec in", id, {Status.RUNNING}, NotRunningError)
                raise explain_failure(failure, checked.cwd) from failure
            known.add(started)
        return started.pid

    def kill_process(self, id: str, pid: int, signal: int) -> None:
        """Send a signal to init or to an exec process; one that has ended is no error. Raises ProcessNotFoundError."""
        with contextlib.suppress(ProcessLookupError):
            self._process(id, pid).watched.send_signal(signal)

    def delete_process(self, id: str, pid: int) -> None:
        """Raises ProcessNotFoundError, StillRunningError."""
        known = self._known(id)
        process = known.processes.get(pid)
        if process is None:
            raise ProcessNotFoundError(id, pid)
        if not process.watched.has_ended:
            raise StillRunningError("delete", id, Status.RUNNING, pid)
        known.remove(pid)

    def wait_on_process(self, id: str, pid: int) -> ProcessExitState:
        """Raises ProcessNotFoundError, ExitStatusUnknownError."""
        known = self._known(id)
        return self._wait(id, known, self._process(id, pid))

    def wait_on_container(self, id: str) -> ProcessExitState:
        """Raises ExitStatusUnknownError.

        Init's end is seen first here, which ends the others; exec processes are collected as they end.
        """
        known = self._known(id)
        known.init.watched.wait()
        known.kill_rest()
        for process in known.exec_processes():
            process.watched.wait()
            process.is_waited_for = True
        return self._wait(id, known, known.init)

    def _wait(self, id: str, known: KnownContainer, process: KnownProcess) -> ProcessExitState:
        exit_state = process.watched.wait()
        process.is_waited_for = True
        if exit_state is None:
            raise ExitStatusUnknownError(id, process.pid)
        return known.with_oom(exit_state, process)

    def get_init_pid(self, id: str) -> int:
        """Raises ProcessNotFoundError if init had ended before this process heard of the container made by another tool."""
        pid = self._known(id).init.pid
        if not pid:
            raise ProcessNotFoundError(id, pid)
        return pid

    def get_stdio_pipes(self, id: str, pid: int) -> StdioPipes:
        """Deleting the process or the container closes them. Raises ProcessNotFoundError."""
        return self._process(id, pid).pipes

    def resize_console(self, id: str, pid: int, width: int, height: int) -> None:
        """Set the terminal's size in characters. Raises ProcessNotFoundError, SetupError."""
        resize_terminal(self._process(id, pid).pipes, width, height)

    # what there is

    def get_container_state(self, id: str) -> ContainerState:
        """The container's state now."""
        return self._complete(self._state(id))

    def container_exists(self, id: str) -> bool:
        """Whether there is such a container."""
        try:
            self._state(id)
        except ContainerNotFoundError:
            return False
        except DamagedStateError:
            return True
        return True

    def list_container_states(self) -> list[ContainerState]:
        """By id; damaged entries are logged and left out."""
        with self._lock:
            for known in self._containers.values():
                known.collect_ended()
        try:
            output = self._run("list", None, "--format", "json")
            reported = msgspec.json.decode(output.strip() or b"null", type=list[_Reported] | None) or []
        except (CommandFailedError, msgspec.MsgspecError):  # crun: one damaged entry spoils all
            reported = [_Reported(name, Status.CREATING) for name in self._directories()]
        states = []
        for entry in reported:
            try:
                states.append(self._complete(entry if entry.is_complete() else self._state(entry.id)))
            except ContainerNotFoundError:
                continue
            except ContainerRuntimeError as error:
                log.warning("container %r is left out: %s", entry.id, error)
        return sorted(states, key=lambda state: state.id)

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        """By pid, without zombies."""
        return self._processes(id)[0]

    def get_all_container_processes(self, id: str) -> list[ContainerProcessState]:
        """By pid, with zombies."""
        running, known = self._processes(id)
        found = {process.pid: process for process in known.zombies() + running}
        return [found[pid] for pid in sorted(found)]

    def _processes(self, id: str) -> tuple[list[ContainerProcessState], KnownContainer]:
        state = self._state(id)
        known = self._known(id, state)
        if state.status not in _LIVE:  # crun's ps crashes on a stopped container
            return [], known
        try:
            pids = msgspec.json.decode(self._run("ps", id, "--format", "json"), type=list[int] | None) or []
        except CommandFailedError as failure:
            if self._state(id).status in _LIVE:
                raise failure.untyped() from failure
            return [], known
        found = (read_process(pid, known.created(pid)) for pid in sorted(pids))
        return [process for process in found if process is not None], known

    # the command line

    def _run(self, subcommand: str, id: str | None, *arguments: str) -> bytes:
        """Options stand before the id, a signal after it; `--` protects an id that begins with a dash."""
        options = [argument for argument in arguments if not argument.isdigit()]
        operands = [argument for argument in arguments if argument.isdigit()]
        with Scratch() as scratch:
            return run_command(self._command, [subcommand, *options, *_operand(id), *operands], scratch)

    def _spawn(self, subcommand: list[str], id: str, process: Process | None, options: StdioOptions) -> KnownProcess:
        terminal = process is not None and process.terminal
        with Scratch() as scratch:
            arguments = [*subcommand, "--pid-file", scratch.pid_file]
            if subcommand[0] == "exec":
                assert process is not None
                scratch.write_process(process)
                arguments += ["--process", scratch.process_file]
            if terminal:
                scratch.listen_for_console()
                arguments += ["--console-socket", scratch.console_path]
            if options.preserve_fds:
                arguments += ["--preserve-fds", str(options.preserve_fds)]
            stdio = PreparedStdio(StdioOptions(preserve_fds=options.preserve_fds) if terminal else options)
            try:
                run_command(self._command, [*arguments, *_operand(id)], scratch, streams=stdio.child,
                            preserve_fds=options.preserve_fds)
                stdio.close_child_ends()
                pid = scratch.read_pid()
                pipes = stdio.take_pipes(scratch.receive_console() if terminal else -1)
            except BaseException:
                stdio.close()
                raise
            return KnownProcess(pid, pipes, list(process.args) if process else [])

    def _act(self, subcommand: str, id: str, allowed: frozenset[Status] | set[Status], error: type[StateError],
             *arguments: str) -> KnownContainer:
        container = self._require(subcommand, id, allowed, error)
        try:
            self._run(subcommand, id, *arguments)
            return container
        except CommandFailedError as failure:
            self._require(subcommand, id, allowed, error)  # it may have changed meanwhile
            raise failure.untyped() from failure

    def _require(self, operation: str, id: str, allowed: frozenset[Status] | set[Status],
                 error: type[StateError]) -> KnownContainer:
        state = self._state(id)
        if state.status not in allowed:
            raise error(operation, id, state.status)
        return self._known(id, state)

    def _state(self, id: str) -> _Reported:
        check_id(id)
        known = self._containers.get(id)
        if known is not None:
            known.collect_ended()  # runc and crun take a zombie's container for a running one in some cases
        try:
            return msgspec.json.decode(self._run("state", id), type=_Reported)
        except CommandFailedError as failure:
            if says_not_found(failure.message) or not os.path.isdir(self._directory(id)):
                self._forget(id, known)
                raise ContainerNotFoundError(id, self.root) from failure
            raise DamagedStateError(id, self._directory(id), failure.message) from failure
        except msgspec.MsgspecError as failure:
            raise DamagedStateError(id, self._directory(id), str(failure)) from failure

    def _complete(self, reported: _Reported) -> ContainerState:
        rootfs = os.path.join(reported.bundle, reported.rootfs or open_bundle(reported.bundle).rootfs_path)
        created = reported.created or datetime.datetime.fromtimestamp(
            os.stat(self._directory(reported.id)).st_mtime, datetime.UTC)
        return ContainerState(reported.oci_version, reported.id, reported.pid if reported.status in _LIVE else 0,
                              reported.bundle, rootfs, reported.status, created, reported.annotations or {})

    # what this process knows

    def _known(self, id: str, state: _Reported | None = None) -> KnownContainer:
        """Also of a container that another process made."""
        before = self._containers.get(id)
        if before is not None and (state is None or state.pid in (0, before.init.pid)):
            return before
        state = state or self._state(id)
        shares = limits = False
        with contextlib.suppress(ContainerRuntimeError):  # the bundle may be gone
            bundle = open_bundle(state.bundle)
            shares, limits = bundle.shares_pid_namespace, limits_memory(bundle.spec.linux.resources)
        known = KnownContainer.adopt(state.pid, self._directory(id), shares, limits)
        with self._lock:
            current = self._containers.get(id)
            if current not in (None, before):  # it was made, or adopted, meanwhile
                return current
            self._containers[id] = known
        return known

    def _process(self, id: str, pid: int) -> KnownProcess:
        known = self._known(id)
        process = known.init if pid == known.init.pid and pid else known.processes.get(pid)
        if process is None:
            raise ProcessNotFoundError(id, pid)
        return process

    def _forget(self, id: str, known: KnownContainer | None) -> None:
        """Not another one of the same id that a thread has made meanwhile."""
        if known is None:
            return
        with self._lock:
            if self._containers.get(id) is known:
                del self._containers[id]
        known.close()

    def _directory(self, id: str) -> str:
        return f"{self.root}/{id}"

    def _directories(self) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []


def _operand(id: str | None) -> list[str]:
    if id is None:
        return []
    return ["--", id] if id.startswith("-") else [id]
