"""What a CliRuntime knows of a container besides what the command line tells: processes, streams, cgroup."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from pyruntime.cgroups import Cgroup, ContainerCgroups
from pyruntime.host import read_host
from pyruntime.interface import ContainerProcessState, ProcessExitState, StdioPipes
from pyruntime.runtimes.reaper import WatchedProcess, children_of_this_process
from pyruntime.runtimes.stdio import close_pipes
from pyruntime.runtimes.waits import with_oom

# in the container's directory, which the runtime removes as a whole
_INIT_FILE = "pyruntime-init-pid"


class KnownProcess:
    """Init or an exec process, and the caller's ends of its standard streams."""

    def __init__(self, pid: int, pipes: StdioPipes, command: list[str]) -> None:
        self.pid = pid
        self.watched = WatchedProcess(pid)
        self.pipes = pipes
        self.command = command
        self.is_waited_for = False

    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has waited for it (the kernel's zombie is collected already)."""
        return not self.is_waited_for and self.watched.has_ended


class KnownContainer:
    """Init, the exec processes of this process, and where their cgroup is."""

    def __init__(self, init: KnownProcess, shares_pid_namespace: bool, limits_memory: bool) -> None:
        self.init = init
        self._limits_memory = limits_memory
        self.shares_pid_namespace = shares_pid_namespace
        self.processes: dict[int, KnownProcess] = {}
        self._cgroups = ContainerCgroups(_cgroups_of_process(init.pid))
        self._lock = threading.Lock()
        self.spawning = threading.Lock()

    @classmethod
    def adopt(cls, pid: int, directory: str, shares_pid_namespace: bool, limits_memory: bool) -> KnownContainer:
        """A container that another process made; pid 0 if it has stopped."""
        start_time = None
        with contextlib.suppress(OSError, ValueError), open(f"{directory}/{_INIT_FILE}") as file:
            pid, start_time = (int(number) for number in file.read().split())
        init = KnownProcess(pid, StdioPipes(), [])
        if start_time is not None and read_start_time(pid) not in (start_time, None):
            init.watched.disown()
        init.is_waited_for = init.watched.has_ended
        return cls(init, shares_pid_namespace, limits_memory)

    def remember_init(self, directory: str) -> None:
        """For other processes: the command line does not tell a stopped container's pid."""
        start_time = read_start_time(self.init.pid)
        if start_time is not None:
            with open(f"{directory}/{_INIT_FILE}", "w") as file:
                file.write(f"{self.init.pid} {start_time}\n")

    def exec_processes(self) -> list[KnownProcess]:
        with self._lock:
            return list(self.processes.values())

    def add(self, process: KnownProcess) -> None:
        with self._lock:
            # the pid may be that of one that has ended and was not deleted: the kernel is free to give it out again
            earlier = self.processes.get(process.pid)
            self.processes[process.pid] = process
        if earlier is not None:
            close_pipes(earlier.pipes)

    def remove(self, pid: int) -> None:
        with self._lock:
            process = self.processes.pop(pid, None)
        if process is not None:
            close_pipes(process.pipes)

    def created(self, pid: int) -> bool:
        """Whether that process, which is running, is init or an exec process."""
        process = self.init if pid == self.init.pid else self.processes.get(pid)
        return process is not None and not process.watched.has_ended

    def zombies(self) -> list[ContainerProcessState]:
        return [ContainerProcessState(process.pid, process.command, True, True)
                for process in (self.init, *self.exec_processes()) if process.pid and process.is_zombie()]

    def collect_ended(self) -> None:
        """Collect processes whose end the reaper's thread has not come to yet."""
        for process in (*self.exec_processes(), self.init):
            process.watched.collect()

    def kill_rest(self) -> None:
        """SIGKILL for what is left in the cgroup after init's end, where init has no pid namespace that ended with it.

        Each is watched before it is killed, because orphans of a shared pid namespace become children of this process.
        """
        while self.shares_pid_namespace and (left := [WatchedProcess(pid) for pid in self._cgroups.pids()]):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
            for process in left:
                process.wait()

    def with_oom(self, exit_state: ProcessExitState, process: KnownProcess) -> ProcessExitState:
        """And whether the kernel has killed for want of memory, where that is limited."""
        if not self._limits_memory:
            return exit_state
        return with_oom(exit_state, self._cgroups, process is self.init)

    def await_frozen(self) -> None:
        """Wait until every process is stopped; one that nobody knows to have been asked to stays as it is."""
        if self._cgroups.is_frozen():
            self._cgroups.freeze()

    def collect_failed_exec(self, program: str) -> None:
        """crun does not reap the child of an exec that failed: as a subreaper's it would keep the pid namespace alive.

        To be called with `spawning` held. It is a zombie of the program's name in the container's pid namespace or
        v2 cgroup, and none of those that are known.
        """
        name = os.path.basename(program).encode()[:15]  # TASK_COMM_LEN
        place = _place(self.init.pid)
        for pid in children_of_this_process():
            if pid == self.init.pid or pid in self.processes or place is None or _place(pid) != place:
                continue
            try:
                with open(f"/proc/{pid}/stat", "rb") as stat:
                    comm, _, tail = stat.read().partition(b"(")[2].rpartition(b") ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if comm == name and tail.startswith(b"Z"):
                WatchedProcess(pid).collect()

    def close(self) -> None:
        for process in (*self.exec_processes(), self.init):
            process.watched.collect()
            close_pipes(process.pipes)


def read_process(pid: int, created_by_runtime: bool) -> ContainerProcessState | None:
    """None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            head, _, tail = stat.read().rpartition(b") ")
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            command = cmdline.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if tail[:1] in b"ZX":
        return None
    words = command.rstrip(b"\0").split(b"\0") if command else [head.partition(b" (")[2]]
    return ContainerProcessState(pid, [os.fsdecode(word) for word in words], created_by_runtime, False)


def read_start_time(pid: int) -> int | None:
    """In clock ticks since boot (proc_pid_stat(5), field 22); None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b") ")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _place(pid: int) -> str | None:
    """Its pid namespace if that is not this process's, else its v2 cgroup if that is not the root; also of a zombie."""
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
        if namespace != os.readlink("/proc/self/ns/pid"):
            return namespace
    except OSError:
        return None
    path = _cgroup_paths(pid).get((), "/")
    return path if path not in ("/", _cgroup_paths(os.getpid()).get(())) else None


def _cgroups_of_process(pid: int) -> tuple[Cgroup, ...]:
    """Those that are the container's alone: none that this process is in or below."""
    found = []
    paths, own_paths = _cgroup_paths(pid), _cgroup_paths(os.getpid())
    for hierarchy in read_host().hierarchies:
        path = paths.get(hierarchy.controllers, "/").rstrip("/")
        own = own_paths.get(hierarchy.controllers, "/")
        if path and not f"{own}/".startswith(f"{path}/"):
            found.append(Cgroup(hierarchy.mount_point + path, len(hierarchy.mount_point), hierarchy.controllers,
                                hierarchy.is_v2))
    return tuple(found)


def _cgroup_paths(pid: int) -> dict[tuple[str, ...], str]:
    """By controllers, () for v2 (cgroups(7), /proc/PID/cgroup)."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = [line.split(":", 2) for line in file.read().splitlines()]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {tuple(filter(None, controllers.split(","))): path for _, controllers, path in lines}
