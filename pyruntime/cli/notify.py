"""sd_notify(3): what a container's program says of itself goes on to whoever had this command say it (systemd, or podman)."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from pyruntime.cli.words import words_of
from pyruntime.notices import log as _log
from pyruntime.state.names import NOTIFY_SOCKET

if TYPE_CHECKING:
    from pyruntime.runtimes.native import NativeRuntime

_MESSAGE_LIMIT = 65536
_BARRIER_TIMEOUT_MS = 5000
_CALLER_TIMEOUT_S = 5
# more than a socket's queue holds, so that what was said before the end is heard
_AT_ONCE = 4096
# what is the program's to say; a pid is one of its own namespace, and descriptors stay where they are
_PASSED_ON = frozenset({b"READY", b"RELOADING", b"STOPPING", b"STATUS", b"ERRNO", b"EXIT_STATUS", b"MONOTONIC_USEC", b"EXTEND_TIMEOUT_USEC",
                        b"WATCHDOG", b"WATCHDOG_USEC"})


@contextlib.contextmanager
def notifications(runtime: NativeRuntime, id: str) -> Iterator[Notifications | None]:
    """Of a container that is going to be started, for NOTIFY_SOCKET; None where it has no socket, or nobody can be told."""
    directory, address = runtime.notify_directory(id), os.environ["NOTIFY_SOCKET"]
    if directory is None:
        yield None
        return
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with caller:
        try:
            caller.connect(f"\0{address[1:]}" if address[0] == "@" else address)
        except OSError as error:
            # as a service without it, which is not told either
            _log.warning("container %s: nobody is notified: connect to NOTIFY_SOCKET %r: %s", id, address, words_of(error.errno or 0))
            yield None
            return
        with Notifications(directory, caller) as made:
            yield made


class Notifications:
    """The socket of the program, in the directory that it sees, and the caller's."""

    def __init__(self, directory: str, caller: socket.socket) -> None:
        self._caller = caller
        self._caller_reads = True
        self._has_awaited_caller = False
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # the path may be longer than an address; a start that has failed may have left one
            path = f"/proc/self/fd/{descriptor}/{NOTIFY_SOCKET}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._socket.bind(path)
            os.chmod(path, 0o777)  # the program may be any user
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def await_ready(self, pid: int, pidfd: int) -> None:
        """Pass on what a process says until it is ready, or has ended."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        has_ended = False
        while not self.pass_on(pid) and not has_ended:
            has_ended = any(descriptor == pidfd for descriptor, _ in poll.poll())

    def pass_on(self, pid: int) -> bool:
        """What has been said by now, though not all of one that goes on and on; whether the program is ready, which is said together
        with that pid."""
        is_ready = False
        for _ in range(_AT_ONCE):
            message = self._receive()
            if message is None:
                break
            lines = [line for line in message.split(b"\n") if line.partition(b"=")[0] in _PASSED_ON]
            if b"READY=1" in lines:
                is_ready = True
                lines.append(b"MAINPID=%d" % pid)
            if lines:
                self._tell(b"\n".join(lines))
        if is_ready and not self._has_awaited_caller:
            self._has_awaited_caller = True
            self._await_caller()
        return is_ready

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(_MESSAGE_LIMIT)
        except BlockingIOError:
            return None

    def _tell(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        # a caller that has gone is nothing to the container; one that does not read is waited for once, until it reads again
        self._caller.settimeout(_CALLER_TIMEOUT_S if self._caller_reads else 0)
        try:
            socket.send_fds(self._caller, [message], [*descriptors])
            self._caller_reads = True
        except OSError as error:
            self._caller_reads = not isinstance(error, TimeoutError | BlockingIOError)

    def _await_caller(self) -> None:
        """Until it has read all that it was told: systemd wants to know who has said it, and this command is going to end."""
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            self._tell(b"BARRIER=1", (write,))
        finally:
            os.close(write)
        poll = select.poll()
        poll.register(read, 0)
        poll.poll(_BARRIER_TIMEOUT_MS)
        os.close(read)
