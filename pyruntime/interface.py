"""The Runtime interface: 17 operations, and the values that they take and return."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol, runtime_checkable

import msgspec

from pyruntime.spec import Process


class Status(enum.StrEnum):
    """Status of a container (runtime-spec, runtime.md "State"; `paused` is what runc adds)."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class StdioOptions(msgspec.Struct, frozen=True):
    """What a process gets as its standard streams.

    create_in, create_out, create_err   a pipe, to be had from `get_stdio_pipes`; otherwise the null device
    in_fd, out_fd, err_fd               a descriptor of the caller's, which stays the caller's, instead
    preserve_fds                        the caller's descriptors 3, 4, ... 2+n are passed on under the same numbers

    With `process.terminal` the streams are a pseudoterminal's, whatever stands here.
    """

    create_in: bool = False
    create_out: bool = False
    create_err: bool = False
    in_fd: int | None = None
    out_fd: int | None = None
    err_fd: int | None = None
    preserve_fds: int = 0

    def __post_init__(self) -> None:
        for name in ("in", "out", "err"):
            descriptor = getattr(self, f"{name}_fd")
            if descriptor is not None and getattr(self, f"create_{name}"):
                raise ValueError(f"create_{name} and {name}_fd={descriptor} exclude each other")
            if descriptor is not None and descriptor < 0:
                raise ValueError(f"{name}_fd must be a descriptor, not {descriptor}")
        if self.preserve_fds < 0:
            raise ValueError(f"preserve_fds must not be negative, but is {self.preserve_fds}")


class StdioPipes(msgspec.Struct, frozen=True):
    """The caller's ends, unbuffered binary files; None where no pipe was asked for.

    With a terminal `in_` and `out` are two files on the master, `err` is None.
    """

    in_: BinaryIO | None = None
    out: BinaryIO | None = None
    err: BinaryIO | None = None


class ContainerState(msgspec.Struct, frozen=True):
    """State of a container (runtime-spec, runtime.md "State"); `pid` is 0 once it has stopped."""

    oci_version: str
    id: str
    pid: int
    bundle_path: str
    rootfs_path: str
    status: Status
    created: datetime.datetime
    annotations: dict[str, str] = {}


class ContainerProcessState(msgspec.Struct, frozen=True):
    """One process in a container; `pid` is of the caller's pid namespace, `command` its argument vector."""

    pid: int
    command: list[str]
    created_by_runtime: bool
    is_zombie: bool


class ProcessExitState(msgspec.Struct, frozen=True):
    """How a process ended, and what the kernel accounted to it and the children that it waited for.

    exit_code          0 to 255; 128 + n where signal n ended it
    signal             the number of that signal, or None
    user_seconds, system_seconds, peak_memory_bytes   getrusage(2); None where only the parent is told them. Of a
                       container's first process the peak may be that of the container as a whole; where it has no pid
                       namespace of its own, the peak of an exec process is None unless it is above the caller's
    oom_killed         whether the kernel has killed for want of memory: of a container's first process, any process of the
                       container by then; of others, whether that was done and this one was ended by SIGKILL. None where
                       the container has no limit of memory (cgroup v1 memory.oom_control, v2 memory.events)
    """

    exit_code: int
    signal: int | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    peak_memory_bytes: int | None = None
    oom_killed: bool | None = None


ProcessLike = Process | Mapping[str, Any]


@runtime_checkable
class Runtime(Protocol):
    """A runtime for OCI bundles.

    Any thread may call any operation. Errors are those of `pyruntime.errors`; each operation may raise
    `ContainerNotFoundError`, besides what it names.
    """

    def create_container(self, id: str, bundle_path: str, stdio_options: StdioOptions) -> int:
        """Apply everything of the bundle's config.json except the user program; return init's pid.

        Raises ContainerExistsError, InvalidIdError, InvalidBundleError, SetupError.
        """
        ...

    def start_container(self, id: str) -> None:
        """Run the user program. If that fails, what create made is removed.

        Raises NotCreatedError, SetupError.
        """
        ...

    def exec_process(self, id: str, process: ProcessLike, stdio_options: StdioOptions) -> int:
        """Run a further OCI `process` in a running container; return its pid in the caller's pid namespace.

        Raises NotRunningError, InvalidBundleError, SetupError.
        """
        ...

    def kill_container(self, id: str, signal: int) -> None:
        """Send a signal to init. Raises NotRunningError unless it is created, running or paused."""
        ...

    def delete_container(self, id: str, force: bool = False) -> None:
        """Remove every trace of a stopped container; with `force`, kill it first.

        Raises NotStoppedError (never with `force`).
        """
        ...

    def delete_process(self, id: str, pid: int) -> None:
        """Forget an exited exec process. Raises ProcessNotFoundError, StillRunningError."""
        ...

    def pause_container(self, id: str) -> None:
        """Freeze every process. Raises NotRunningError."""
        ...

    def resume_container(self, id: str) -> None:
        """Thaw every process. Raises NotPausedError."""
        ...

    def get_container_state(self, id: str) -> ContainerState:
        """The container's state now."""
        ...

    def container_exists(self, id: str) -> bool:
        """Whether there is such a container; a stopped one exists until it is deleted."""
        ...

    def list_container_states(self) -> list[ContainerState]:
        """The states of all containers, by id; damaged entries are logged and left out."""
        ...

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        """The processes in the container, by pid, without zombies."""
        ...

    def get_all_container_processes(self, id: str) -> list[ContainerProcessState]:
        """The same, with zombies: created by the runtime, exited, not yet waited for."""
        ...

    def wait_on_process(self, id: str, pid: int) -> ProcessExitState:
        """Wait for an exec process (or init) to end. Any number of threads may; each gets the status.

        Raises ProcessNotFoundError, ExitStatusUnknownError.
        """
        ...

    def wait_on_container(self, id: str) -> ProcessExitState:
        """Wait for every exec process, then for init; return init's status.

        Where init does not have a pid namespace of its own, the rest of the container is killed when init ends.
        Raises ExitStatusUnknownError.
        """
        ...

    def get_init_pid(self, id: str) -> int:
        """Init's pid in the caller's pid namespace, also after it has ended."""
        ...

    def get_stdio_pipes(self, id: str, pid: int) -> StdioPipes:
        """The caller's ends of the standard streams of init or of an exec process.

        Raises ProcessNotFoundError.
        """
        ...
