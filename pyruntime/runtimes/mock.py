"""A runtime without privileges, for tests of code that uses a Runtime: real states, real pipes, programs in threads."""

from __future__ import annotations

import datetime
import errno
import itertools
import os
import signal as _signal
import threading
from collections.abc import Mapping

from pyruntime.errors import (
    ContainerExistsError,
    ContainerNotFoundError,
    NotCreatedError,
    NotPausedError,
    NotRunningError,
    NotStoppedError,
    ProcessNotFoundError,
    SetupError,
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
from pyruntime.runtimes.bundle import OpenedBundle, open_bundle
from pyruntime.runtimes.mock_programs import DEFAULT_PROGRAMS, FIRST_PID, MockProcess, Program, find_program
from pyruntime.runtimes.stdio import PreparedStdio, close_pipes
from pyruntime.runtimes.terminal import resize_terminal
from pyruntime.spec import Process, decode_process
from pyruntime.state.store import check_id

_LIVE = (Status.CREATED, Status.RUNNING, Status.PAUSED)
_pids = itertools.count(FIRST_PID)


class _Started:
    """A process that the runtime created."""

    def __init__(self, process: MockProcess, pipes: StdioPipes) -> None:
        self.process = process
        self.pipes = pipes
        self.is_waited_for = False


class _MockContainer:
    def __init__(self, id: str, bundle: OpenedBundle) -> None:
        self.id = id
        self.bundle = bundle
        self.created = datetime.datetime.now(datetime.UTC)
        self.is_started = False
        self.is_paused = False
        self.is_ending = False
        self.init: _Started
        self.processes: dict[int, _Started] = {}
        self.children: list[MockProcess] = []

    @property
    def status(self) -> Status:
        if self.is_ending or self.init.process.exit is not None:
            return Status.STOPPED
        if self.is_paused:
            return Status.PAUSED
        return Status.RUNNING if self.is_started else Status.CREATED

    def others(self) -> list[MockProcess]:
        """Every process but init."""
        return [started.process for started in self.processes.values()] + self.children

    def kill_others(self) -> None:
        while left := [process for process in self.others() if process.exit is None]:
            for process in left:
                process.send_signal(_signal.SIGKILL)
            for process in left:
                process.wait()


class MockRuntime:
    """The Runtime interface in memory. Nothing is run but the callables in `programs`.

    root       MockRuntimes with the same root, in one Python process, have the same containers; None: its own
    programs   what a program does, by file name (`python3`) or by path (`/usr/bin/python3`): a callable that takes a
               `MockProcess` and returns the exit code. They are added to true, false, sleep, cat, echo, and sh for
               `sh -c "exit N"`. A program that is not there cannot be executed, as in a real container.

    Bundles are loaded and checked as by the other runtimes. Other than in the kernel, SIGTERM also ends an init that
    does not handle it, and resources and mounts mean nothing.
    """

    _shared: dict[str, dict[str, _MockContainer]] = {}

    def __init__(self, root: str | None = None, programs: Mapping[str, Program] | None = None) -> None:
        self.root = root
        self._programs = {**DEFAULT_PROGRAMS, **(programs or {})}
        self._containers: dict[str, _MockContainer] = {} if root is None else self._shared.setdefault(root, {})
        self._lock = threading.RLock()

    def container(self, id: str) -> Container:
        """The container as an object."""
        self._find(id)
        return Container(self, id)

    # life cycle

    def create_container(self, id: str, bundle_path: str, stdio_options: StdioOptions) -> int:
        """Raises ContainerExistsError, InvalidIdError, InvalidBundleError."""
        check_id(id)
        bundle = open_bundle(bundle_path)
        container = _MockContainer(id, bundle)
        with self._lock:
            if id in self._containers:
                raise ContainerExistsError(id)
            container.init = self._prepare(container, bundle.spec.process, stdio_options)
            self._containers[id] = container
        self._run(container, container.init.process)
        return container.init.process.pid

    def start_container(self, id: str) -> None:
        """Raises NotCreatedError, SetupError."""
        container = self._require("start", id, (Status.CREATED,), NotCreatedError)
        try:
            self._check_process(container, container.bundle.spec.process, makes_cwd=True)
        except SetupError:
            self.delete_container(id, force=True)
            raise
        with self._lock:
            self._require("start", id, (Status.CREATED,), NotCreatedError)
            container.is_started = True
            container.init.process.release()

    def kill_container(self, id: str, signal: int) -> None:
        """Raises NotRunningError unless it is created, running or paused."""
        container = self._require("kill", id, _LIVE, NotRunningError)
        container.init.process.send_signal(signal)

    def delete_container(self, id: str, force: bool = False) -> None:
        """Raises NotStoppedError (never with `force`)."""
        with self._lock:
            container = self._find(id)
            if container.status != Status.STOPPED and not force:
                raise NotStoppedError("delete", id, container.status)
            del self._containers[id]
        container.init.process.send_signal(_signal.SIGKILL)
        container.init.process.wait()
        container.kill_others()
        for started in (container.init, *container.processes.values()):
            close_pipes(started.pipes)

    def pause_container(self, id: str) -> None:
        """Raises NotRunningError."""
        self._set_paused(self._require("pause", id, (Status.RUNNING,), NotRunningError), True)

    def resume_container(self, id: str) -> None:
        """Raises NotPausedError."""
        self._set_paused(self._require("resume", id, (Status.PAUSED,), NotPausedError), False)

    def _set_paused(self, container: _MockContainer, paused: bool) -> None:
        with self._lock:
            container.is_paused = paused
            for process in (container.init.process, *container.others()):
                process.set_paused(paused)

    # processes

    def exec_process(self, id: str, process: ProcessLike, stdio_options: StdioOptions) -> int:
        """Raises NotRunningError, InvalidBundleError, SetupError."""
        checked = decode_process(process)
        with self._lock:
            container = self._require("exec in", id, (Status.RUNNING,), NotRunningError)
            self._check_process(container, checked, makes_cwd=False)
            started = self._prepare(container, checked, stdio_options)
            container.processes[started.process.pid] = started
            started.process.release()
        self._run(container, started.process)
        return started.process.pid

    def kill_process(self, id: str, pid: int, signal: int) -> None:
        """Send a signal to init or to an exec process; one that has ended is no error. Raises ProcessNotFoundError."""
        self._process(id, pid).process.send_signal(signal)

    def delete_process(self, id: str, pid: int) -> None:
        """Raises ProcessNotFoundError, StillRunningError."""
        with self._lock:
            container = self._find(id)
            started = container.processes.get(pid)
            if started is None:
                raise ProcessNotFoundError(id, pid)
            if started.process.exit is None:
                raise StillRunningError("delete", id, Status.RUNNING, pid)
            del container.processes[pid]
        close_pipes(started.pipes)

    def wait_on_process(self, id: str, pid: int) -> ProcessExitState:
        """Raises ProcessNotFoundError."""
        started = self._process(id, pid)
        exit_state = started.process.wait()
        started.is_waited_for = True
        return exit_state

    def wait_on_container(self, id: str) -> ProcessExitState:
        """Wait for every exec process, then for init; return init's status."""
        container = self._find(id)
        exit_state = container.init.process.wait()
        container.kill_others()
        for started in (*container.processes.values(), container.init):
            started.is_waited_for = True
        return exit_state

    def get_init_pid(self, id: str) -> int:
        """A made-up pid, that of no process of the host."""
        return self._find(id).init.process.pid

    def get_stdio_pipes(self, id: str, pid: int) -> StdioPipes:
        """Deleting the process or the container closes them. Raises ProcessNotFoundError."""
        return self._process(id, pid).pipes

    def resize_console(self, id: str, pid: int, width: int, height: int) -> None:
        """Set the terminal's size in characters. Raises ProcessNotFoundError, SetupError."""
        resize_terminal(self._process(id, pid).pipes, width, height)

    # what there is

    def get_container_state(self, id: str) -> ContainerState:
        """The container's state now."""
        container = self._find(id)
        status, spec = container.status, container.bundle.spec
        pid = 0 if status == Status.STOPPED else container.init.process.pid
        return ContainerState(spec.oci_version, id, pid, container.bundle.path, container.bundle.rootfs_path, status,
                              container.created, spec.annotations)

    def container_exists(self, id: str) -> bool:
        """Whether there is such a container."""
        check_id(id)
        return id in self._containers

    def list_container_states(self) -> list[ContainerState]:
        """By id."""
        with self._lock:
            return [self.get_container_state(id) for id in sorted(self._containers)]

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        """By pid, without zombies."""
        return [process for process in self.get_all_container_processes(id) if not process.is_zombie]

    def get_all_container_processes(self, id: str) -> list[ContainerProcessState]:
        """By pid, with zombies."""
        with self._lock:
            container = self._find(id)
            created = [container.init, *container.processes.values()]
            found = [ContainerProcessState(started.process.pid, started.process.args, True,
                                           started.process.exit is not None)
                     for started in created if started.process.exit is None or not started.is_waited_for]
            found += [ContainerProcessState(process.pid, process.args, False, False)
                      for process in container.children if process.exit is None]
            return sorted(found, key=lambda process: process.pid)

    def _find(self, id: str) -> _MockContainer:
        check_id(id)
        try:
            return self._containers[id]
        except KeyError:
            raise ContainerNotFoundError(id, self.root) from None

    def _process(self, id: str, pid: int) -> _Started:
        container = self._find(id)
        started = container.init if pid == container.init.process.pid else container.processes.get(pid)
        if started is None:
            raise ProcessNotFoundError(id, pid)
        return started

    def _require(self, operation: str, id: str, allowed: tuple[Status, ...], error: type[StateError]) -> _MockContainer:
        container = self._find(id)
        if container.status not in allowed:
            raise error(operation, id, container.status)
        return container

    # making processes

    def _prepare(self, container: _MockContainer, process: Process | None, options: StdioOptions) -> _Started:
        """The process and its streams, without a thread yet."""
        args = list(process.args) if process else []
        env = dict(variable.partition("=")[::2] for variable in (process.env if process else ()))
        cwd = process.cwd if process else "/"
        terminal = process is not None and process.terminal
        stdio = PreparedStdio(StdioOptions() if terminal else options)
        if terminal:
            master, slave = os.openpty()
            descriptors = (slave, os.dup(slave), os.dup(slave))
        else:
            master = -1
            in_, out, err = stdio.child
            descriptors = (os.dup(in_), os.dup(out), os.dup(err))
        stdio.close_child_ends()
        return _Started(self._new(container, args, env, cwd, terminal, descriptors), stdio.take_pipes(master))

    def _new(self, container: _MockContainer, args: list[str], env: Mapping[str, str], cwd: str, terminal: bool,
             descriptors: tuple[int, int, int]) -> MockProcess:
        def spawn(child_args: list[str]) -> MockProcess:
            child = self._new(container, child_args, env, cwd, terminal,
                              (os.dup(process.stdin), os.dup(process.stdout), os.dup(process.stderr)))
            child.release()
            with self._lock:
                container.children.append(child)
            self._run(container, child)
            return child

        process = MockProcess(next(_pids), args, env, cwd, terminal, descriptors, spawn, held=True)
        return process

    def _run(self, container: _MockContainer, process: MockProcess) -> None:
        def program(process: MockProcess) -> int | None:
            return self._find_program(process.args[0])(process)

        def before_end() -> None:
            if process is container.init.process and not container.bundle.shares_pid_namespace:
                with self._lock:
                    container.is_ending = True
                container.kill_others()  # as the kernel does, pid_namespaces(7)

        threading.Thread(target=process.run, args=(program, before_end), name=f"{container.id}-{process.pid}",
                         daemon=True).start()

    def _find_program(self, path: str) -> Program:
        program = find_program(self._programs, path)
        if program is None:
            raise SetupError("execute program", path, errno.ENOENT, "$.process.args[0]",
                             "the MockRuntime was given no such program")
        return program

    def _check_process(self, container: _MockContainer, process: Process | None, makes_cwd: bool) -> None:
        """Fail as the kernel does, as far as the bundle tells."""
        if process is None or not process.args:
            raise SetupError("execute program", None, errno.ENOENT, "$.process.args")
        rootfs = container.bundle.rootfs_path
        cwd = os.path.join(rootfs, process.cwd.lstrip("/"))
        if os.path.exists(cwd) and not os.path.isdir(cwd):
            raise SetupError("change directory", process.cwd, errno.ENOTDIR, "$.process.cwd")
        if not makes_cwd and not os.path.exists(cwd):
            raise SetupError("change directory", process.cwd, errno.ENOENT, "$.process.cwd")
        linux = container.bundle.spec.linux
        for id, mappings in ((process.user.uid, linux.uid_mappings), (process.user.gid, linux.gid_mappings)):
            if mappings and not any(m.container_id <= id < m.container_id + m.size for m in mappings):
                raise SetupError("set identity", None, errno.EINVAL, "$.process.user")
        program = os.path.join(rootfs, process.args[0].lstrip("/"))
        if os.path.isfile(program) and not os.stat(program).st_mode & 0o111:
            raise SetupError("execute program", process.args[0], errno.EACCES, "$.process.args[0]")
        self._find_program(process.args[0])
