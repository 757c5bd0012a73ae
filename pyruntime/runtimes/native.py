"""NativeRuntime: the Runtime interface on this project's own engine."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import resource
import select
import threading
from collections.abc import Iterator

import msgspec

from pyruntime import errors
from pyruntime.cgroups import ContainerCgroups, cgroups_of
from pyruntime.errors import SetupError
from pyruntime.handles import Container
from pyruntime.host import read_host
from pyruntime.interface import (
    ContainerProcessState,
    ContainerState,
    ProcessExitState,
    ProcessLike,
    Status,
    StdioOptions,
    StdioPipes,
)
from pyruntime.native import process as native
from pyruntime.plan.compile import Place, cgroups_for, compile, compile_exec, namespace_bits
from pyruntime.plan.operations import Plan
from pyruntime.plan.process import unknown_capabilities
from pyruntime.runtimes.bundle import open_bundle
from pyruntime.runtimes.live import LiveProcess, is_alive, read_command, read_stat, wait_foreign
from pyruntime.runtimes.stdio import PreparedStdio
from pyruntime.spec import Process, decode_process
from pyruntime.state import ContainerRecord, ProcessRecord, Store
from pyruntime.state.names import START_SOCKET

_log = logging.getLogger("pyruntime")
_INIT_EXECUTABLE = "/memfd:pyruntime-init"


class _Entry:
    """What this runtime object holds of a container that it made or looked at."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.init: LiveProcess | None = None
        self.processes: dict[int, LiveProcess] = {}
        self._wakers: list[int] = []

    def add(self, live: LiveProcess) -> None:
        """Remember an exec process, and tell those who wait for init."""
        self.processes[live.pid] = live
        for waker in list(self._wakers):
            os.eventfd_write(waker, 1)

    def wait_init(self, init: LiveProcess) -> ProcessExitState | None:
        """Wait for init to end. Exec processes that end meanwhile are reaped: until then the kernel keeps the init of
        a pid namespace from ending. Their statuses are kept for those who ask."""
        waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakers.append(waker)
        try:
            while not init.has_ended():
                poll = select.poll()
                poll.register(waker, select.POLLIN)
                poll.register(init.pidfd, select.POLLIN)
                running = {live.pidfd: live for live in list(self.processes.values()) if not live.is_reaped}
                for pidfd in running:
                    poll.register(pidfd, select.POLLIN)
                for fd, _ in poll.poll():
                    if fd in running:
                        running[fd].wait()
                    elif fd == waker:
                        os.eventfd_read(waker)
        finally:
            self._wakers.remove(waker)
            os.close(waker)
        return init.wait()


class NativeRuntime:
    """OCI bundles run by this process, without a runtime binary.

    root   directory for the state of containers; 0700, made when needed. Every runtime object with the same root, in
           whatever process, sees the same containers.

    See `pyruntime.Runtime` for the operations. Needs root and Linux 5.14.
    """

    def __init__(self, root: str = "/run/pyruntime") -> None:
        self._store = Store(os.fspath(root))
        self._host = read_host()
        self._entries: dict[str, _Entry] = {}
        self._entries_lock = threading.Lock()

    # creation

    def create_container(self, id: str, bundle_path: str, stdio_options: StdioOptions, *, no_pivot: bool = False) -> int:
        """See Runtime. no_pivot: cover the root instead of pivoting, for a host whose root is an initramfs."""
        directory = self._store.add(id)
        cgroups: ContainerCgroups | None = None
        spawned: native.Spawned | None = None
        stdio: PreparedStdio | None = None
        try:
            bundle = open_bundle(os.fspath(bundle_path))
            spec = bundle.spec
            with _in_file(f"{bundle.path}/config.json"):
                container_cgroups = cgroups_for(spec, self._host, id)
                plan = compile(spec, self._host, Place(id, bundle.path, bundle.rootfs_path, directory), no_pivot=no_pivot,
                               preserve_fds=stdio_options.preserve_fds)
            _warn_of_capabilities(id, spec.process)
            cgroups = ContainerCgroups(container_cgroups)
            stdio = PreparedStdio(stdio_options)
            spawned = native.spawn(plan, stdio.child)
            stdio.close_child_ends()
            native.follow(spawned, plan, native.MESSAGE_READY)
            live = _take_live(spawned, stdio, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            bits = namespace_bits(spec)
            self._store.save(ContainerRecord(
                id=id, oci_version=spec.oci_version, bundle_path=bundle.path, rootfs_path=bundle.rootfs_path, pid=live.pid,
                start_time=live.start_time, created=datetime.datetime.now(datetime.UTC), namespaces=bits,
                shares_pid_namespace=bundle.shares_pid_namespace, cgroups=container_cgroups,
                annotations=spec.annotations, capabilities=spec.process.capabilities if spec.process else None))
        except BaseException:
            if spawned is not None and spawned.pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    native.send_signal(spawned.pidfd, 9)
                native.wait_until_ended(spawned.pidfd)
                native.reap(spawned.pidfd)
                spawned.close()
            if stdio is not None:
                stdio.close()
            self._clean_up(id, cgroups)
            raise
        with self._entries_lock:
            entry = self._entries[id] = _Entry()
            entry.init = live
        _log.debug("created container %s: pid %d", id, live.pid)
        return live.pid

    def start_container(self, id: str) -> None:
        """See Runtime."""
        with self._locked(id) as entry:
            record = self._store.load(id)
            status = self._status(record, entry)
            if status is not Status.CREATED:
                raise errors.NotCreatedError("start", id, status)
            directory = self._store.directory(id)
            try:
                failure = native.start(directory, START_SOCKET, None)
            except OSError as error:
                if error.errno != errno.ECONNREFUSED:
                    raise SetupError("connect to the waiting init", error.filename, error.errno or 0, None) from error
                raise errors.NotCreatedError("start", id, self._status(record, entry)) from error
            if failure is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{directory}/{START_SOCKET}")
                return
            self._end(entry, record)
            self._forget(id, record)
        raise failure

    def _end(self, entry: _Entry, record: ContainerRecord) -> None:
        """Kill whatever is left of the container and wait until it is gone."""
        cgroups = ContainerCgroups(record.cgroups)
        init = entry.init
        known = [live for live in (*entry.processes.values(), init) if live is not None]
        for live in known:
            if not live.has_ended():
                with contextlib.suppress(ProcessLookupError):
                    native.send_signal(live.pidfd, 9)
        if init is None and is_alive(record.pid, record.start_time):
            with _process(record.pid, record.start_time) as pidfd:
                if pidfd is not None:
                    native.send_signal(pidfd, 9)
        if cgroups.is_frozen():
            cgroups.thaw()
        # the exec processes first: a pid namespace's init does not end before all in it have been reaped
        for live in known:
            live.wait()
        cgroups.kill()

    def _forget(self, id: str, record: ContainerRecord) -> None:
        self._drop(id)
        self._clean_up(id, ContainerCgroups(record.cgroups))

    def _drop(self, id: str) -> None:
        """Close what is held of a container that has ended, here or by another process's doing."""
        with self._entries_lock:
            entry = self._entries.pop(id, None)
        if entry is not None:
            for live in (entry.init, *entry.processes.values()):
                if live is not None and live.has_ended():
                    live.wait()
                    live.close()

    def _clean_up(self, id: str, cgroups: ContainerCgroups | None) -> None:
        try:
            if cgroups is not None:
                cgroups.kill()
                cgroups.remove()
        finally:
            self._store.remove(id)

    # exec

    def exec_process(self, id: str, process: ProcessLike, stdio_options: StdioOptions) -> int:
        """See Runtime. Without `capabilities` the process gets those of the container's config.json."""
        entry = self._entry(id)
        record = self._store.load(id)
        status = self._status(record, entry)
        if status is not Status.RUNNING:
            raise errors.NotRunningError("exec in", id, status)
        decoded = decode_process(process)
        if decoded.capabilities is None and record.capabilities is not None:
            decoded = msgspec.structs.replace(decoded, capabilities=record.capabilities)
        _warn_of_capabilities(id, decoded)
        with self._init_pidfd(record, entry) as pidfd:
            plan = compile_exec(decoded, record.cgroups, record.namespaces, pidfd, id,
                                preserve_fds=stdio_options.preserve_fds)
            live = self._spawn_exec(id, plan, stdio_options)
        entry.add(live)
        return live.pid

    def _spawn_exec(self, id: str, plan: Plan, stdio_options: StdioOptions) -> LiveProcess:
        stdio = PreparedStdio(stdio_options)
        try:
            spawned = native.spawn(plan, stdio.child)
            stdio.close_child_ends()
            native.follow(spawned, plan, native.MESSAGE_EXECUTING)
            live = _take_live(spawned, stdio)
        except BaseException:
            stdio.close()
            raise
        self._store.save_process(id, ProcessRecord(live.pid, live.start_time))
        return live

    # signals and deletion

    def kill_container(self, id: str, signal: int) -> None:
        """See Runtime."""
        entry = self._entry(id)
        record = self._store.load(id)
        status = self._status(record, entry)
        if status not in (Status.CREATED, Status.RUNNING, Status.PAUSED):
            raise errors.NotRunningError("kill", id, status)
        with self._init_pidfd(record, entry, "kill") as pidfd:
            native.send_signal(pidfd, int(signal))

    def kill_process(self, id: str, pid: int, signal: int) -> None:
        """Send a signal to an exec process or init. Raises ProcessNotFoundError; one that has ended is no error."""
        entry = self._entry(id)
        live = self._live(entry, pid)
        with contextlib.suppress(ProcessLookupError):
            if live is not None:
                native.send_signal(live.pidfd, int(signal))
                return
            record = self._process_record(id, pid)
            with _process(pid, record.start_time) as pidfd:
                if pidfd is not None:
                    native.send_signal(pidfd, int(signal))

    def delete_container(self, id: str, force: bool = False) -> None:
        """See Runtime. With `force` also an entry whose state is damaged or that was never finished."""
        with self._locked(id) as entry:
            try:
                record = self._store.load(id)
            except errors.DamagedStateError:
                if not force:
                    raise
                _log.warning("removing container %s, whose state is damaged", id)
                with self._entries_lock:
                    self._entries.pop(id, None)
                self._clean_up(id, ContainerCgroups(cgroups_of(self._host, None, id)))
                return
            status = self._status(record, entry)
            if status is not Status.STOPPED and not force:
                raise errors.NotStoppedError("delete", id, status)
            self._end(entry, record)
            self._forget(id, record)
        _log.debug("deleted container %s", id)

    def delete_process(self, id: str, pid: int) -> None:
        """See Runtime."""
        entry = self._entry(id)
        live = entry.processes.get(pid)
        if live is None:
            record = self._process_record(id, pid, allows_init=False)
            if record.exit_code is None and is_alive(pid, record.start_time):
                raise errors.StillRunningError("delete", id, "running", pid)
        else:
            if not live.has_ended():
                raise errors.StillRunningError("delete", id, "running", pid)
            live.wait()
            if entry.processes.pop(pid, None) is None:
                raise errors.ProcessNotFoundError(id, pid)
            live.close()
        self._store.remove_process(id, pid)

    def pause_container(self, id: str) -> None:
        """See Runtime."""
        with self._locked(id) as entry:
            record = self._store.load(id)
            status = self._status(record, entry)
            if status is not Status.RUNNING:
                raise errors.NotRunningError("pause", id, status)
            ContainerCgroups(record.cgroups).freeze()

    def resume_container(self, id: str) -> None:
        """See Runtime."""
        with self._locked(id) as entry:
            record = self._store.load(id)
            status = self._status(record, entry)
            if status is not Status.PAUSED:
                raise errors.NotPausedError("resume", id, status)
            ContainerCgroups(record.cgroups).thaw()

    # what is there

    def get_container_state(self, id: str) -> ContainerState:
        """See Runtime."""
        return self._state(self._store.load(id), self._entries.get(id))

    def container_exists(self, id: str) -> bool:
        """See Runtime."""
        return self._store.exists(id)

    def list_container_states(self) -> list[ContainerState]:
        """See Runtime."""
        states = []
        ids = self._store.ids()
        for gone in list(self._entries.keys() - set(ids)):
            if not self._store.exists(gone):  # and not one that was created meanwhile
                self._drop(gone)
        for id in ids:
            try:
                states.append(self.get_container_state(id))
            except errors.ContainerNotFoundError:
                continue
            except (errors.DamagedStateError, errors.InvalidIdError) as error:
                _log.warning("left out of the list: %s", error)
        return states

    def get_init_pid(self, id: str) -> int:
        """See Runtime."""
        return self._store.load(id).pid

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        """See Runtime."""
        return [process for process in self.get_all_container_processes(id) if not process.is_zombie]

    def get_all_container_processes(self, id: str) -> list[ContainerProcessState]:
        """See Runtime."""
        record = self._store.load(id)
        created = {record.pid: record.start_time}
        created.update((process.pid, process.start_time) for process in self._store.processes(id)
                       if process.exit_code is None)
        found = []
        pids = set(ContainerCgroups(record.cgroups).pids())
        entry = self._entries.get(id)
        # reaped so that init could end, but nobody has asked for them: zombies still, to those who look
        unasked = {live.pid for live in (entry.processes.values() if entry is not None else ())
                   if live.is_reaped and not live.is_waited_for}
        found += [ContainerProcessState(pid, ["?"], True, True) for pid in unasked]
        for pid in sorted(pids | created.keys() - unasked):
            stat = read_stat(pid)
            by_runtime = stat is not None and created.get(pid) == stat[1]
            zombie = stat is not None and stat[0] in "ZX"
            if stat is None or (zombie and not by_runtime) or (pid not in pids and not (by_runtime and zombie)):
                continue
            command = read_command(pid)
            if command is not None:
                found.append(ContainerProcessState(pid, command, by_runtime, zombie))
        return sorted(found, key=lambda process: process.pid)

    def get_stdio_pipes(self, id: str, pid: int) -> StdioPipes:
        """See Runtime. Of a process that another runtime object made there are none here."""
        live = self._live(self._entry(id), pid)
        if live is not None:
            return live.pipes
        self._process_record(id, pid)
        return StdioPipes()

    def container(self, id: str) -> Container:
        """The container as an object."""
        self._store.load(id)
        return Container(self, id)

    def resize_console(self, id: str, pid: int, width: int, height: int) -> None:
        """Set the size of a process's terminal, in characters. Raises ProcessNotFoundError, StateError without one."""
        pipes = self.get_stdio_pipes(id, pid)
        if pipes.out is None or not os.isatty(pipes.out.fileno()):
            raise SetupError("resize the console", None, errno.ENOTTY, None, f"process {pid} has no terminal here")
        native.resize_terminal(pipes.out.fileno(), width, height)

    # waiting

    def wait_on_process(self, id: str, pid: int) -> ProcessExitState:
        """See Runtime."""
        live = self._live(self._entry(id), pid)
        if live is None:
            return self._wait_foreign(id, self._process_record(id, pid))
        exit_state = self._wait_live(id, live, self._entry(id))
        if exit_state is None:
            raise errors.ExitStatusUnknownError(id, pid)
        return exit_state

    def wait_on_container(self, id: str) -> ProcessExitState:
        """See Runtime."""
        entry = self._entry(id)
        record = self._store.load(id)
        if record.shares_pid_namespace:
            # the end of init ends nothing by itself there, so it is first
            exit_state = self._wait_init(record, entry)
            ContainerCgroups(record.cgroups).kill(frozenset({record.pid}), frozenset(entry.processes))
        self._wait_exec_processes(id, entry)
        if not record.shares_pid_namespace:
            exit_state = self._wait_init(record, entry)
        if exit_state is None:
            raise errors.ExitStatusUnknownError(id, record.pid)
        return exit_state

    def _wait_exec_processes(self, id: str, entry: _Entry) -> None:
        seen: set[int] = set()
        while left := [live for pid, live in list(entry.processes.items()) if pid not in seen]:
            for live in left:
                seen.add(live.pid)
                self._wait_live(id, live, entry)
        for record in self._store.processes(id):
            if record.pid not in seen and record.exit_code is None:
                wait_foreign(record.pid, record.start_time)

    def _wait_init(self, record: ContainerRecord, entry: _Entry) -> ProcessExitState | None:
        if entry.init is not None:
            exit_state = self._wait_live(record.id, entry.init, entry)
            if exit_state is not None and exit_state.peak_memory_bytes is None:
                peak = ContainerCgroups(record.cgroups).peak_memory_bytes()
                exit_state = msgspec.structs.replace(exit_state, peak_memory_bytes=peak)
            return exit_state
        try:
            return self._wait_foreign(record.id, ProcessRecord(record.pid, record.start_time))
        except errors.ExitStatusUnknownError:
            return None

    def _wait_live(self, id: str, live: LiveProcess, entry: _Entry) -> ProcessExitState | None:
        first = not live.is_waited_for
        live.is_waited_for = True
        exit_state = entry.wait_init(live) if live is entry.init else live.wait()
        if first and exit_state is not None:
            # for other processes that ask later; the container may be deleted meanwhile
            with contextlib.suppress(FileNotFoundError):
                self._store.save_process(id, _with_exit(live, exit_state))
        return exit_state

    def _wait_foreign(self, id: str, record: ProcessRecord) -> ProcessExitState:
        exit_state = None if record.exit_code is not None else wait_foreign(record.pid, record.start_time)
        if exit_state is not None:
            return exit_state
        saved = self._store.load_process(id, record.pid)
        if saved is None or saved.exit_code is None or saved.start_time != record.start_time:
            raise errors.ExitStatusUnknownError(id, record.pid)
        return ProcessExitState(saved.exit_code, saved.signal, saved.user_seconds, saved.system_seconds,
                                saved.peak_memory_bytes)

    # inner matters

    def _entry(self, id: str) -> _Entry:
        entry = self._entries.get(id)
        if not self._store.exists(id):
            self._drop(id)
            raise errors.ContainerNotFoundError(id, self._store.root)
        if entry is None:
            with self._entries_lock:
                entry = self._entries.setdefault(id, _Entry())
        return entry

    @contextlib.contextmanager
    def _locked(self, id: str) -> Iterator[_Entry]:
        """Hold a container against other threads and other processes while its status changes."""
        entry = self._entry(id)
        with entry.lock, self._store.locked(id):
            yield entry

    @staticmethod
    def _live(entry: _Entry, pid: int) -> LiveProcess | None:
        if entry.init is not None and entry.init.pid == pid:
            return entry.init
        return entry.processes.get(pid)

    def _process_record(self, id: str, pid: int, allows_init: bool = True) -> ProcessRecord:
        """Of a process that another runtime object made. Raises ProcessNotFoundError."""
        container = self._store.load(id)
        if pid == container.pid:
            if allows_init:
                return ProcessRecord(pid, container.start_time)
            raise errors.ProcessNotFoundError(id, pid)
        record = self._store.load_process(id, pid)
        if record is None:
            raise errors.ProcessNotFoundError(id, pid)
        return record

    @contextlib.contextmanager
    def _init_pidfd(self, record: ContainerRecord, entry: _Entry, operation: str = "exec in") -> Iterator[int]:
        if entry.init is not None:
            yield entry.init.pidfd
            return
        with _process(record.pid, record.start_time) as pidfd:
            if pidfd is None:
                raise errors.NotRunningError(operation, record.id, Status.STOPPED)
            yield pidfd

    def _status(self, record: ContainerRecord, entry: _Entry | None) -> Status:
        init = entry.init if entry is not None else None
        if init.has_ended() if init is not None else not is_alive(record.pid, record.start_time):
            return Status.STOPPED
        if os.path.exists(f"{self._store.directory(record.id)}/{START_SOCKET}"):
            # one who started it and died before removing the socket leaves it: the program tells
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{record.pid}/exe").startswith(_INIT_EXECUTABLE):
                    return Status.CREATED
        return Status.PAUSED if ContainerCgroups(record.cgroups).is_frozen() else Status.RUNNING

    def _state(self, record: ContainerRecord, entry: _Entry | None) -> ContainerState:
        status = self._status(record, entry)
        return ContainerState(record.oci_version, record.id, 0 if status is Status.STOPPED else record.pid,
                              record.bundle_path, record.rootfs_path, status, record.created, record.annotations)


@contextlib.contextmanager
def _in_file(file: str) -> Iterator[None]:
    """Name the file in what the plan's compiler, which knows none, finds wrong."""
    try:
        yield
    except errors.InvalidBundleError as error:
        if error.file is None:
            raise type(error)(file, error.json_path, error.reason) from error
        raise


@contextlib.contextmanager
def _process(pid: int, start_time: int) -> Iterator[int | None]:
    """A pidfd of that very process; None if it is gone."""
    try:
        pidfd = native.open_pidfd(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        stat = read_stat(pid)
        yield pidfd if stat is not None and stat[1] == start_time else None
    finally:
        os.close(pidfd)


def _take_live(spawned: native.Spawned, stdio: PreparedStdio, hidden_peak_bytes: int = 0) -> LiveProcess:
    stat = read_stat(spawned.pid)
    live = LiveProcess(spawned.pid, stat[1] if stat else 0, spawned.pidfd, stdio.take_pipes(spawned.console),
                       hidden_peak_bytes)
    spawned.pidfd = spawned.console = -1
    spawned.close()
    return live


def _with_exit(live: LiveProcess, exit_state: ProcessExitState) -> ProcessRecord:
    return ProcessRecord(live.pid, live.start_time, exit_state.exit_code, exit_state.signal, exit_state.user_seconds,
                         exit_state.system_seconds, exit_state.peak_memory_bytes)


def _warn_of_capabilities(id: str, process: Process | None) -> None:
    if process is not None and (unknown := unknown_capabilities(process)):
        _log.warning("container %s: unknown capabilities are left out: %s", id, ", ".join(sorted(unknown)))
