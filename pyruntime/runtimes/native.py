"""NativeRuntime: the Runtime interface on this project's own engine."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pyruntime import errors
from pyruntime.cgroups import ContainerCgroups, cgroups_of, default_path_of, systemd
from pyruntime.host import read_host, without_cgroups
from pyruntime.interface import ContainerProcessState, ContainerState, ProcessExitState, ProcessLike, Status, StdioOptions, StdioPipes
from pyruntime.native import process as native
from pyruntime.native.start import recorded_failure, start
from pyruntime.notices import log as _log
from pyruntime.plan.compile import Manner
from pyruntime.runtimes.compiled import BundleCache
from pyruntime.runtimes.creation import Creation, make
from pyruntime.runtimes.ending import end_all, end_processes
from pyruntime.runtimes.execution import launch_in
from pyruntime.runtimes.held import HeldContainers
from pyruntime.runtimes.hooks import run_poststart_hooks, run_poststop_hooks, start_container_hook
from pyruntime.runtimes.identity import is_alive, open_process
from pyruntime.runtimes.joined_mounts import detach_root, root_of
from pyruntime.runtimes.listener import passing_on_at_start
from pyruntime.runtimes.live import Entry
from pyruntime.runtimes.milestones import tell_created, tell_executed
from pyruntime.runtimes.process_list import find_process, list_processes, signal_all
from pyruntime.runtimes.status import status_of_living
from pyruntime.runtimes.stdio import check_preserved
from pyruntime.runtimes.waits import Waits, known
from pyruntime.spec import IntelRdt, Resources
from pyruntime.state import ContainerRecord, Store
from pyruntime.state.names import START_SOCKET
from pyruntime.state.store import root_for

if TYPE_CHECKING:
    from pyruntime.checkpoint import CheckpointOptions, RestoreOptions
    from pyruntime.handles import Container
    from pyruntime.native.kept import PlanFile
    from pyruntime.runtimes.events import ContainerEvents


class NativeRuntime(HeldContainers):
    """OCI bundles run by this process, without a runtime binary.

    root   directory for the state of containers; 0700, made when needed. Every runtime object with the same root, in
           whatever process, sees the same containers. Without privileges the default stands for $XDG_RUNTIME_DIR/pyruntime.
    systemd_cgroup   each new container gets a systemd unit, without privileges one of the user's own manager, and `linux.cgroupsPath` is
                     `slice:prefix:name`. Raises UnsupportedHostError where systemd does not run, SetupError where it does not answer.

    no_cgroups       new containers get no cgroups: they stay in the caller's, and what would limit them is refused

    See `pyruntime.Runtime` for the operations. Needs Linux 5.14; without privileges only containers in a user namespace can be made.
    """

    def __init__(self, root: str = "/run/pyruntime", *, systemd_cgroup: bool = False, no_cgroups: bool = False) -> None:
        self._host = without_cgroups(read_host()) if no_cgroups else read_host()
        super().__init__(Store(root_for(os.fspath(root), self._host.is_rootless)))
        self._bundles = BundleCache(self._host, self._store.root, systemd.control_group() if systemd_cgroup else None)
        self._waits = Waits(self._store)

    # creation

    def create_container(self, id: str, bundle_path: str, stdio_options: StdioOptions, *, no_pivot: bool = False,
                         keeps_keyring: bool = False, finds_program: bool = False, environment: tuple[str, ...] = (),
                         notifies: bool = False) -> int:
        """See Runtime.

        no_pivot        cover the root instead of pivoting, for a host whose root is an initramfs
        keeps_keyring   leave its processes in the session keyring of whoever makes them, instead of making one
        finds_program   fail here if the program is missing or may not be executed, as runc and crun do; otherwise the start fails
        environment     `NAME=value`, what its program has besides `process.env`
        notifies        its program gets a socket for sd_notify(3), in `notify_directory`
        """
        check_preserved(stdio_options)
        manner = Manner(no_pivot, keeps_keyring, finds_program, stdio_options.preserve_fds, environment, notifies)
        live, record = make(self._store, id, lambda: Creation(self._store, self._host, id, self._bundles.open(os.fspath(bundle_path))),
                            lambda creation: creation.run(stdio_options, manner))
        with self._entries_lock:
            self._entries[id] = Entry(live, record)
        tell_created(id, live.pid)
        return live.pid

    def keep_plan(self, file: PlanFile, id: str, process: ProcessLike | None = None, bundle_path: str = "", *, no_pivot: bool = False,
                  keeps_keyring: bool = False) -> None:
        """Of what was executed in a container, or else of how it was created, for the command line's front end to do the same again."""
        from pyruntime.runtimes.kept import keep_bundle, keep_process  # nobody else does

        if process is not None:
            record, entry = self._open(id)
            keep_process(file, process, record, entry, self._host)
        else:
            keep_bundle(file, self._bundles, bundle_path, id, self._store.root, Manner(no_pivot, keeps_keyring, finds_program=True))

    def restore_container(self, id: str, bundle_path: str, image_path: str, stdio_options: StdioOptions,
                          options: RestoreOptions | None = None) -> int:
        """A container that goes on from a checkpoint, of a bundle like the one that was made of; init's pid. What standard streams were
        outside the container is what `stdio_options` says. Raises as create_container does, CheckpointError, UnsupportedHostError."""
        from pyruntime.runtimes.restore import Restoration

        live, record = make(self._store, id, lambda: Restoration(self._store, self._host, id, self._bundles.open(os.fspath(bundle_path))),
                            lambda made: made.restore(os.fspath(image_path), stdio_options, options))
        with self._entries_lock:
            self._entries[id] = Entry(live, record, has_started=True)
        return live.pid

    def checkpoint_container(self, id: str, image_path: str, options: CheckpointOptions | None = None) -> None:
        """Write a running container to the directory `image_path`, made if missing; unless it is to go on, it has stopped then. Raises
        NotRunningError, CheckpointError, UnsupportedHostError without criu: then it goes on, and nothing but criu's log is left."""
        from pyruntime.runtimes.checkpoint import checkpoint

        with self._locked(id) as entry:
            checkpoint(record := self._store.load(id), self._status(record, entry), self._store.processes(id), os.fspath(image_path), options,
                       self._host)

    def start_container(self, id: str) -> None:
        """See Runtime."""
        with self._locked(id) as entry:
            directory = self._store.directory(id)
            self._store.check_complete(id)
            try:
                pass_on = passing_on_at_start(entry.record, lambda: self._store.load(id))
                failure, has_hooks = start(directory, START_SOCKET, lambda i: start_container_hook(self._store.load(id), i), pass_on)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                heard = self._store.load_failure(id)
                failure, has_hooks = recorded_failure(heard) if heard is not None else None, False
                if failure is None:
                    raise errors.NotCreatedError("start", id, self._status(self._store.load(id), entry)) from error
            except OSError as error:
                raise errors.SetupError("connect to the waiting init", error.filename, error.errno or 0, None) from error
            entry.has_started = failure is None and entry.init is not None
            if failure is None and not has_hooks:
                return
            record = self._store.load(id)
            if failure is not None:
                self._destroy(id, entry, record)
        if failure is None:
            failure = self._run_poststart_hooks(record)
        if failure is not None:
            run_poststop_hooks(record)
            if failure.errno == errno.ENODATA:  # of RefuseStart, which ends a plan without a process
                raise errors.InvalidBundleError(f"{record.bundle_path}/config.json", "$.process", "is required to start the container")
            raise failure

    def _run_poststart_hooks(self, record: ContainerRecord) -> errors.SetupError | None:
        """Without the lock: they may take long, and deal with the container. It is destroyed if one fails."""
        failure = run_poststart_hooks(record, self._status(record, self._entries.get(record.id)))
        if failure is not None:
            with contextlib.suppress(errors.ContainerNotFoundError), self._locked(record.id) as entry:
                found = self._store.load(record.id)
                if (found.pid, found.start_time) == (record.pid, record.start_time):
                    self._destroy(record.id, entry, record)
        return failure

    def _destroy(self, id: str, entry: Entry, record: ContainerRecord) -> None:
        end_processes(entry, record, self._store.processes(id))
        self._forget(id, record)

    def _forget(self, id: str, record: ContainerRecord) -> None:
        self._drop(id)
        if record.joined_mount_namespace is not None:
            detach_root(record.joined_mount_namespace, record.rootfs_path)
        self._clean_up(id, ContainerCgroups(record.cgroups, record.unit), () if record.resctrl is msgspec.UNSET else record.resctrl.removed)

    def _clean_up(self, id: str, cgroups: ContainerCgroups, groups: tuple[str, ...]) -> None:
        try:
            cgroups.remove()
            if groups:
                from pyruntime.runtimes.resctrl import remove_groups  # few need it

                remove_groups(groups)
        finally:
            self._store.remove(id)

    # exec

    def exec_process(self, id: str, process: ProcessLike, stdio_options: StdioOptions, *, cgroups: Mapping[str, str] = {},
                     allows_created: bool = False, allows_paused: bool = False) -> int:
        """See Runtime. Capabilities, limits, scheduler, priorities, affinity, profile and label that the process does not state it has of
        the container's config.json.

        cgroups         below the container's, which are there: by controller of cgroup v1, or by '' for all
        allows_created  also in a container that waits for its start, if the process cannot have CAP_SYS_PTRACE there
        allows_paused   also in a paused container; this returns once somebody has resumed it
        """
        check_preserved(stdio_options)
        record, entry = self._open(id)
        # that what is held of it runs has been seen
        status = status_of_living(record, entry, self._store.directory(id)) if record is entry.record else self._status(record, entry)
        if status is not Status.RUNNING and not (allows_paused and status is Status.PAUSED or allows_created and status is Status.CREATED):
            raise errors.NotRunningError("exec in", id, status)
        try:
            with self._init_pidfd(record, entry) as init, root_of(record) as root:
                live = launch_in(record, entry, process, stdio_options, (init, *root), self._store, self._host, status, cgroups)
        except ProcessLookupError as error:
            raise errors.NotRunningError("exec in", id, Status.STOPPED) from error
        entry.add(live)
        tell_executed(record, process, live.pid)
        return live.pid

    # signals and deletion

    def kill_container(self, id: str, signal: int) -> None:
        """See Runtime. SIGKILL also ends the rest of a container that has no pid namespace of its own, and what is left of it when its
        init has ended."""
        record, entry = self._open(id)
        if int(signal) == native.SIGKILL and record.shares_pid_namespace and ContainerCgroups(record.cgroups).pids():
            self.signal_all(id, native.SIGKILL)
            return
        status = self._status(record, entry)
        if status not in (Status.CREATED, Status.RUNNING, Status.PAUSED):
            raise errors.NotRunningError("kill", id, status)
        try:
            with self._init_pidfd(record, entry) as init:
                native.send_signal(init, int(signal))
        except ProcessLookupError as error:
            raise errors.NotRunningError("kill", id, Status.STOPPED) from error

    def signal_all(self, id: str, signal: int) -> None:
        """Send a signal to every process of a container, also to those that have outlived init in a shared pid namespace; that there
        is none is no error."""
        signal_all(self._store.load(id), lambda: self._store.processes(id), int(signal))

    def kill_process(self, id: str, pid: int, signal: int) -> None:
        """Send a signal to an exec process or init. Raises ProcessNotFoundError; one that has ended is no error."""
        container, entry = self._open(id)
        live = entry.find(pid)
        with contextlib.suppress(ProcessLookupError):
            if live is not None:
                live.send_signal(int(signal))
                return
            record = find_process(self._store, container, pid)
            with open_process(pid, record.start_time) as pidfd:
                if pidfd is not None:
                    native.send_signal(pidfd, int(signal))

    def delete_container(self, id: str, force: bool = False) -> None:
        """See Runtime. With `force` also an entry whose state is damaged or that was never finished."""
        with self._locked(id) as entry:
            try:
                record: ContainerRecord | None = self._store.load(id)
            except errors.DamagedStateError:
                if not force:
                    raise
                record = self._remove_damaged(id, entry)
            else:
                assert record is not None
                status = self._status(record, entry)
                if status is not Status.STOPPED and not force:
                    raise errors.NotStoppedError("delete", id, status)
                self._destroy(id, entry, record)
        if record is not None:
            run_poststop_hooks(record)
        _log.debug("deleted container %s", id)

    def _remove_damaged(self, id: str, entry: Entry) -> ContainerRecord | None:
        """One whose creation was interrupted, or whose record cannot be read: its cgroups tell what belongs to it. What is known of it."""
        _log.warning("removing container %s, whose state is damaged", id)
        prepared = self._store.load_prepared(id)
        path, unit = self._store.load_cgroup(id) or (default_path_of(self._host, id), None)
        cgroups = ContainerCgroups(cgroups_of(self._host, path), unit)
        end_all(entry, cgroups)
        self._drop(id)
        if prepared is not None and prepared.joined_mount_namespace is not None:
            detach_root(prepared.joined_mount_namespace, prepared.rootfs_path)
        self._clean_up(id, cgroups, self._store.load_resctrl(id))
        return prepared

    def delete_process(self, id: str, pid: int) -> None:
        """See Runtime."""
        container, entry = self._open(id)
        live = entry.processes.get(pid)
        if live is None:
            record = find_process(self._store, container, pid, allows_init=False)
            if record.exit_code is None and is_alive(pid, record.start_time):
                raise errors.StillRunningError("delete", id, "running", pid)
            self._store.remove_process(id, record)
            return
        if not live.has_ended():
            raise errors.StillRunningError("delete", id, "running", pid)
        live.wait()
        if entry.processes.pop(pid, None) is None:
            raise errors.ProcessNotFoundError(id, pid)
        live.close()
        with live.recording:
            recorded, live.record = live.record, None
            if recorded is not None:
                self._store.remove_process(id, recorded)

    def forget_reaped_processes(self, id: str) -> None:
        """Forget exec processes that have ended and whose status somebody else has: whoever runs many in a container, each by a
        command of its own, would have the records of all of them there until it is deleted."""
        for record in self._store.processes(id):
            if record.exit_code is None and native.start_time(record.pid) != record.start_time:
                self._store.remove_process(id, record)

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

    def update_container(self, id: str, resources: Resources | Mapping[str, Any] | bytes, *,
                         intel_rdt: IntelRdt | Mapping[str, Any] | None = None) -> None:
        """Change limits of a created, running or paused container: those that `resources` has (`linux.resources` of config.json, JSON
        paths begin there), and the schemata of `intel_rdt` (`linux.intelRdt`). Raises NotRunningError, InvalidBundleError, SetupError;
        then nothing is changed."""
        from pyruntime.runtimes.update import update  # nothing else needs it, nor what it imports

        with self._locked(id) as entry:
            record = self._store.load(id)
            status = self._status(record, entry)
            if status is Status.STOPPED:
                raise errors.NotRunningError("update", id, status)
            if intel_rdt is None:
                changed = update(record, resources, self._host)
            else:
                from pyruntime.runtimes.resctrl_update import changed_group  # few need it

                with changed_group(record, intel_rdt, self._host,
                                   lambda: [process.pid for process in list_processes(record, self._store.processes(id), entry)],
                                   lambda paths: self._store.save_resctrl(id, paths)) as with_group:
                    changed = update(with_group, resources, self._host)
            if changed != record:
                self._store.prepare(changed)
                self._store.commit(id)
                entry.record = changed if entry.record is not None else None

    # what is there

    def get_container_state(self, id: str) -> ContainerState:
        """See Runtime."""
        return self._state(self._store.load(id), self._entries.get(id))

    def notify_directory(self, id: str) -> str | None:
        """Where the program has a socket `notify.sock` for sd_notify(3); None: nowhere. Raises ContainerNotFoundError."""
        return self._store.notify_directory(id)

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

    def container_statistics(self, id: str) -> dict[str, Any]:
        """What the container uses, as the kernel counts it (see `pyruntime.cgroups.statistics`). Raises NotRunningError."""
        from pyruntime.cgroups.statistics import statistics  # few need it

        record, entry = self._open(id)
        status = self._status(record, entry)
        if status is Status.STOPPED:
            raise errors.NotRunningError("count", id, status)
        return statistics(record.cgroups)

    def container_events(self, id: str) -> ContainerEvents:
        """What tells that the container's memory ran out, and that it has ended. Raises NotRunningError, OSError."""
        from pyruntime.runtimes.events import ContainerEvents

        record, entry = self._open(id)
        try:
            if self._status(record, entry) is Status.STOPPED:
                raise ProcessLookupError
            return ContainerEvents(record)
        except ProcessLookupError as error:
            raise errors.NotRunningError("watch", id, Status.STOPPED) from error

    def get_init_pid(self, id: str) -> int:
        """See Runtime."""
        return self._store.load(id).pid

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        """See Runtime."""
        return [process for process in self.get_all_container_processes(id) if not process.is_zombie]

    def get_all_container_processes(self, id: str) -> list[ContainerProcessState]:
        """See Runtime."""
        record = self._store.load(id)
        return list_processes(record, self._store.processes(id), self._entries.get(id))

    def get_stdio_pipes(self, id: str, pid: int) -> StdioPipes:
        """See Runtime. Of a process that another runtime object made there are none here."""
        container, entry = self._open(id)
        live = entry.find(pid)
        if live is not None:
            return live.pipes
        find_process(self._store, container, pid)
        return StdioPipes()

    def container(self, id: str) -> Container:
        """The container as an object."""
        from pyruntime.handles import Container  # few callers want it

        self._store.load(id)
        return Container(self, id)

    def resize_console(self, id: str, pid: int, width: int, height: int) -> None:
        """Set the size of a process's terminal, in characters. Raises ProcessNotFoundError, StateError without one."""
        pipes = self.get_stdio_pipes(id, pid)
        if pipes.out is None or not os.isatty(pipes.out.fileno()):
            raise errors.SetupError("resize the console", None, errno.ENOTTY, None, f"process {pid} has no terminal here")
        native.resize_terminal(pipes.out.fileno(), width, height)

    # waiting

    def wait_on_process(self, id: str, pid: int) -> ProcessExitState:
        """See Runtime."""
        record, entry = self._open(id)
        if pid == record.pid:
            exit_state = self._waits.for_init(record, entry)
        elif (live := entry.processes.get(pid)) is not None:
            exit_state = self._waits.for_live(record, live)
        else:
            exit_state = self._waits.for_foreign(record, find_process(self._store, record, pid))
        return known(exit_state, id, pid)

    def wait_on_container(self, id: str) -> ProcessExitState:
        """See Runtime."""
        record, entry = self._open(id)
        return known(self._waits.for_container(record, entry), id, record.pid)
