"""One call of an OCI command line: its files, its standard streams, and why it failed."""

from __future__ import annotations

import array
import errno
import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType

import msgspec

from pyruntime.errors import RuntimeCommandError, SetupError
from pyruntime.notices import log
from pyruntime.spec import Process

# systemd's protocols are between it and the caller: the command would pass the descriptors on, or report for it
_NOT_PASSED_ON = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET")


class CommandFailedError(Exception):
    """The command ended with another code than 0; `message` is the last error of its log."""

    def __init__(self, arguments: list[str], exit_code: int, message: str) -> None:
        super().__init__(message)
        self.arguments = arguments
        self.exit_code = exit_code
        self.message = message

    def untyped(self) -> RuntimeCommandError:
        return RuntimeCommandError(self.arguments, self.exit_code, self.message)


class Scratch:
    """A directory for the files of one call: log, pid file, process, console socket."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pyruntime-")
        self.path = self._directory.name
        self.log = f"{self.path}/log"
        self.pid_file = f"{self.path}/pid"
        self.process_file = f"{self.path}/process.json"
        self.console_path = f"{self.path}/console"
        self._console: socket.socket | None = None

    def listen_for_console(self) -> None:
        self._console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._console.bind(self.console_path)
        self._console.listen(1)
        # the command sends before it ends, so there is nothing to wait for once it has
        self._console.setblocking(False)

    def receive_console(self) -> int:
        """The terminal's master, from the command that has ended with success."""
        assert self._console is not None
        try:
            connection, _ = self._console.accept()
            with connection:
                _, messages, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        except BlockingIOError:
            messages = []
        for level, kind, data in messages:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                master: int = array.array("i", data[:4])[0]
                os.set_inheritable(master, False)
                return master
        raise SetupError("receive console", None, 0, "$.process.terminal", "the runtime sent no terminal")

    def read_pid(self) -> int:
        with open(self.pid_file) as file:
            return int(file.read())

    def write_process(self, process: Process) -> None:
        described = msgspec.to_builtins(process)
        described["user"] = {"uid": process.user.uid, "gid": process.user.gid, **described.get("user", {})}
        with open(self.process_file, "wb") as file:
            file.write(msgspec.json.encode(described))

    def read_error(self) -> str:
        """The last error line of the log."""
        try:
            with open(self.log, errors="replace") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return ""
        for line in reversed(lines):
            try:
                record = json.loads(line)
                if record.get("level") in ("error", "fatal", "panic"):
                    return str(record.get("msg", ""))
            except (ValueError, AttributeError):
                continue
        return ""

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._console is not None:
            self._console.close()
        self._directory.cleanup()


def run_command(command: list[str], arguments: Sequence[str], scratch: Scratch, *,
                streams: tuple[int, int, int] | None = None, preserve_fds: int = 0) -> bytes:
    """Run `command` (program and global options) with the arguments of one subcommand; return its output.

    With `streams` these are its standard streams, which it hands to the container, and there is no output.
    Raises CommandFailedError, SetupError where the program cannot be run at all.
    """
    line = [*command, "--log", scratch.log, "--log-format", "json", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    in_, out, err = streams or (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
    try:
        ended = subprocess.run(line, stdin=in_, stdout=out, stderr=err, env=environment, check=False,
                               pass_fds=range(3, 3 + preserve_fds))
    except OSError as error:
        raise SetupError("execute runtime", command[0], error.errno or 0, None) from error
    log.debug("%s ended with %d", line, ended.returncode)
    if ended.returncode != 0:
        text = scratch.read_error() or (ended.stderr or b"").decode(errors="replace").strip()
        raise CommandFailedError(line, ended.returncode, text or "no message")
    return ended.stdout or b""


def says_not_found(message: str) -> bool:
    """Whether a failed `state` means that there is no such container."""
    return bool(re.search(r"container.* does not exist|/(status|state\.json)\b.*no such file", message, re.IGNORECASE))


def says_exists(message: str) -> bool:
    """Whether a failed `create` means that the id is taken."""
    return bool(re.search(r"already exists", message, re.IGNORECASE))


# What runc, crun and our own command line say about the last steps before the user program, and the step and field that it is.
_STEPS = (
    (r"^(find|execute) program '(?P<path>[^']*)'", "execute program", "$.process.args[0]"),
    (r"^change directory '(?P<path>[^']*)'", "change directory", "$.process.cwd"),
    (r"^set identity", "set identity", "$.process.user"),
    (r'chdir to cwd \("(?P<path>[^"]*)"\)', "change directory", "$.process.cwd"),
    (r"error during container init: mkdir (?P<path>\S+):", "change directory", "$.process.cwd"),
    (r"chdir [`'\"](?P<path>[^`'\"]*)[`'\"]", "change directory", "$.process.cwd"),
    (r"(setup user|setresuid|setresgid|setgroups|setuid|setgid)", "set identity", "$.process.user"),
    (r'exec:? "(?P<path>[^"]*)"', "execute program", "$.process.args[0]"),
    (r"executable (file )?[`'\"](?P<path>[^`'\"]*)[`'\"]", "execute program", "$.process.args[0]"),
    (r"^open executable", "execute program", "$.process.args[0]"),
)
_ERRNOS = {os.strerror(number).lower(): number for number in errno.errorcode}
_ERRNOS["executable file not found in $path"] = errno.ENOENT
_ERRNOS["unmapped user in user namespace"] = errno.EINVAL
_ERRNOS["must be in range"] = errno.EINVAL


def explain_failure(failure: CommandFailedError, cwd: str) -> SetupError | RuntimeCommandError:
    """The failed step, as far as the message tells it.

    A directory that could not be made is only taken for `process.cwd` if it has that name.
    """
    message = failure.message
    number = next((number for text, number in _ERRNOS.items() if text in message.lower()), 0)
    for pattern, step, json_path in _STEPS:
        if match := re.search(pattern, message, re.IGNORECASE):
            path = match.groupdict().get("path")
            if "mkdir" in pattern and not (path and cwd.startswith(path)):
                continue
            return SetupError(step, path, number, json_path, message)
    return failure.untyped()
