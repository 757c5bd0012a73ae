"""The error tree: every error carries facts as attributes, and a message made from them.

`errno` stays a number until a message is printed; paths and ids are the caller's, quoted.
"""

from __future__ import annotations

import errno as _errno
import os


class ContainerRuntimeError(Exception):
    """Root of everything that pyruntime raises on purpose."""


class InvalidIdError(ContainerRuntimeError, ValueError):
    """The container id is not of the form that a state directory can carry."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"invalid container id {id!r}: {reason}")
        self.id = id
        self.reason = reason


class InvalidBundleError(ContainerRuntimeError, ValueError):
    """The bundle, its config.json, or a `process` given to exec cannot be used.

    `file` is the path of the offending file (None for a process given as an object),
    `json_path` the place in it (`$.linux.namespaces[2].type`, None if it is not JSON at all).
    """

    def __init__(self, file: str | None, json_path: str | None, reason: str) -> None:
        where = ": ".join(part for part in (file, json_path) if part)
        super().__init__(f"{where}: {reason}" if where else reason)
        self.file = file
        self.json_path = json_path
        self.reason = reason


class UnsupportedFieldError(InvalidBundleError):
    """The value is valid by the specification but not executed by this version or on this host."""


class UnsupportedHostError(ContainerRuntimeError):
    """The host lacks what every container needs, such as a kernel from 5.14 on."""


class ContainerNotFoundError(ContainerRuntimeError, LookupError):
    """No container of that id under this root."""

    def __init__(self, id: str, root: str | None = None) -> None:
        below = f" under {root!r}" if root is not None else ""
        super().__init__(f"container {id!r} does not exist{below}")
        self.id = id
        self.root = root


class ProcessNotFoundError(ContainerRuntimeError, LookupError):
    """The container has no process of that pid that the runtime created."""

    def __init__(self, id: str, pid: int) -> None:
        super().__init__(f"container {id!r} has no process {pid} created by the runtime")
        self.id = id
        self.pid = pid


class ContainerExistsError(ContainerRuntimeError):
    """A container of that id exists already."""

    def __init__(self, id: str) -> None:
        super().__init__(f"container {id!r} already exists")
        self.id = id


class StateError(ContainerRuntimeError):
    """The operation does not fit the container's status; nothing was changed."""

    wanted = "another status"

    def __init__(self, operation: str, id: str, status: str, pid: int | None = None) -> None:
        what = f"process {pid} of container {id!r}" if pid is not None else f"container {id!r}"
        super().__init__(f"cannot {operation} {what}: it is {status}, not {self.wanted}")
        self.operation = operation
        self.id = id
        self.status = status
        self.pid = pid


class NotCreatedError(StateError):
    """start: the container is not in status `created`."""

    wanted = "created"


class NotRunningError(StateError):
    """exec, pause, kill: the container (or created container, for kill) is not running."""

    wanted = "running"


class NotPausedError(StateError):
    """resume: the container is not paused."""

    wanted = "paused"


class NotStoppedError(StateError):
    """delete: the container has not stopped."""

    wanted = "stopped"


class StillRunningError(StateError):
    """delete_process: the process has not exited."""

    wanted = "exited"


class SetupError(ContainerRuntimeError):
    """The kernel refused a step of setting up; everything made so far was taken back.

    step       what was tried, e.g. `attach mount`
    path       on what (None where there is no object)
    errno      why, as a number (0 where it was not a system call that failed)
    json_path  the field of config.json that asked for it (None: the runtime itself did)
    detail     what the kernel or the runtime adds, '' if nothing
    """

    def __init__(self, step: str, path: str | None, errno: int, json_path: str | None,
                 detail: str = "") -> None:
        self.step = step
        self.path = path
        self.errno = errno
        self.json_path = json_path
        self.detail = detail
        message = step
        if path:
            message += f" {path!r}"
        if json_path:
            message += f" ({json_path})"
        if detail:
            message += f": {detail}"
        if errno:
            message += f": {self.errno_name}: {os.strerror(errno)}"
        super().__init__(message)

    @property
    def errno_name(self) -> str:
        """`ENOENT` and the like; `errno 999` for a number that has no name, '' for none."""
        return _errno.errorcode.get(self.errno, f"errno {self.errno}") if self.errno else ""


class InitDiedError(SetupError):
    """The container's init ended before it was ready; `signal` or `exit_code` tells how."""

    def __init__(self, step: str, json_path: str | None, detail: str,
                 exit_code: int | None, signal: int | None) -> None:
        super().__init__(step, None, 0, json_path, detail)
        self.exit_code = exit_code
        self.signal = signal


class HookFailedError(SetupError):
    """A program of `$.hooks` could not be executed, failed, or did not end in time.

    exit_code, signal   how it ended; both None if it was not executed or killed because its time was over
    """

    def __init__(self, path: str, errno: int, json_path: str, detail: str, exit_code: int | None = None, signal: int | None = None) -> None:
        super().__init__("run hook", path, errno, json_path, detail)
        self.exit_code = exit_code
        self.signal = signal


class CheckpointError(SetupError):
    """CRIU could not make a checkpoint or restore one.

    log_file      CRIU's log, None if it did not get as far as having one
    log_excerpt   the last lines of it that tell of errors
    """

    def __init__(self, step: str, errno: int, detail: str, log_file: str | None, log_excerpt: tuple[str, ...] = ()) -> None:
        told = "; ".join((detail, *log_excerpt)) if detail else "; ".join(log_excerpt)
        super().__init__(step, log_file, errno, None, told)
        self.log_file = log_file
        self.log_excerpt = log_excerpt


class ExitStatusUnknownError(ContainerRuntimeError):
    """The process has ended, but its status went to another process and the kernel keeps it no more."""

    def __init__(self, id: str, pid: int) -> None:
        super().__init__(f"process {pid} of container {id!r} has ended; its exit status is not known to this process, because it "
                         "is not its parent or ignores SIGCHLD (Linux 6.15 and newer keep the status for both)")
        self.id = id
        self.pid = pid


class DamagedStateError(ContainerRuntimeError):
    """The container's state file cannot be read; delete with force removes the entry."""

    def __init__(self, id: str, file: str, reason: str) -> None:
        super().__init__(f"state of container {id!r} is damaged: {file}: {reason}")
        self.id = id
        self.file = file
        self.reason = reason


class RuntimeCommandError(ContainerRuntimeError):
    """A runtime driven by its command line failed in a way that has no type of its own."""

    def __init__(self, arguments: list[str], exit_code: int, message: str) -> None:
        super().__init__(f"{' '.join(arguments)!r} ended with {exit_code}: {message}")
        self.arguments = arguments
        self.exit_code = exit_code
        self.message = message
