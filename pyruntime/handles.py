"""Containers and processes as objects: a thin view of a runtime's operations."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Protocol

from pyruntime.errors import ContainerNotFoundError
from pyruntime.interface import (
    ContainerProcessState,
    ContainerState,
    ProcessExitState,
    ProcessLike,
    Runtime,
    StdioOptions,
    StdioPipes,
)


class HandleRuntime(Runtime, Protocol):
    """What handles need of a runtime beyond the 17 operations."""

    def kill_process(self, id: str, pid: int, signal: int) -> None:
        """Send a signal to init or to an exec process; one that has ended is no error. Raises ProcessNotFoundError."""
        ...

    def resize_console(self, id: str, pid: int, width: int, height: int) -> None:
        """Set a terminal's size in characters. Raises ProcessNotFoundError, SetupError if there is no terminal."""
        ...


class Container:
    """A container by its id.

    As a context manager it deletes the container at the end, also one that is still running.
    """

    def __init__(self, runtime: HandleRuntime, id: str) -> None:
        self.runtime = runtime
        self.id = id

    def __repr__(self) -> str:
        return f"Container({self.id!r})"

    @property
    def pid(self) -> int:
        """Init's pid."""
        return self.runtime.get_init_pid(self.id)

    @property
    def state(self) -> ContainerState:
        """The state now."""
        return self.runtime.get_container_state(self.id)

    @property
    def exists(self) -> bool:
        """Whether it does."""
        return self.runtime.container_exists(self.id)

    @property
    def init(self) -> Process:
        """The container's first process."""
        return Process(self, self.pid)

    @property
    def stdio(self) -> StdioPipes:
        """The caller's ends of init's standard streams."""
        return self.runtime.get_stdio_pipes(self.id, self.pid)

    def start(self) -> None:
        """Run the user program."""
        self.runtime.start_container(self.id)

    def exec(self, process: ProcessLike, stdio_options: StdioOptions = StdioOptions()) -> Process:
        """Run a further process."""
        return Process(self, self.runtime.exec_process(self.id, process, stdio_options))

    def kill(self, signal: int) -> None:
        """Send a signal to init."""
        self.runtime.kill_container(self.id, signal)

    def wait(self) -> ProcessExitState:
        """Wait for every exec process, then for init."""
        return self.runtime.wait_on_container(self.id)

    def pause(self) -> None:
        """Freeze every process."""
        self.runtime.pause_container(self.id)

    def resume(self) -> None:
        """Thaw every process."""
        self.runtime.resume_container(self.id)

    def processes(self, zombies: bool = False) -> list[ContainerProcessState]:
        """The processes in it, by pid; with `zombies` also those not waited for."""
        if zombies:
            return self.runtime.get_all_container_processes(self.id)
        return self.runtime.get_running_container_processes(self.id)

    def resize_console(self, width: int, height: int) -> None:
        """Set the size of init's terminal in characters."""
        self.runtime.resize_console(self.id, self.pid, width, height)

    def delete(self, force: bool = False) -> None:
        """Remove every trace; with `force`, kill it first."""
        self.runtime.delete_container(self.id, force)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(ContainerNotFoundError):
            self.delete(force=True)


class Process:
    """Init or an exec process of a container."""

    def __init__(self, container: Container, pid: int) -> None:
        self.container = container
        self.pid = pid

    def __repr__(self) -> str:
        return f"Process({self.container!r}, {self.pid})"

    @property
    def stdio(self) -> StdioPipes:
        """The caller's ends of its standard streams."""
        return self.container.runtime.get_stdio_pipes(self.container.id, self.pid)

    def wait(self) -> ProcessExitState:
        """Wait until it has ended; from any thread, any number of times."""
        return self.container.runtime.wait_on_process(self.container.id, self.pid)

    def kill(self, signal: int) -> None:
        """Send it a signal."""
        self.container.runtime.kill_process(self.container.id, self.pid, signal)

    def resize_console(self, width: int, height: int) -> None:
        """Set the size of its terminal in characters."""
        self.container.runtime.resize_console(self.container.id, self.pid, width, height)

    def delete(self) -> None:
        """Forget it, once it has ended."""
        self.container.runtime.delete_process(self.container.id, self.pid)
