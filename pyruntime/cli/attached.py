"""While a command waits for its process: signals go on to it, and the terminal of the command is the process's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyruntime.cli.notify import Notifications
    from pyruntime.native.signals import CaughtSignals
    from pyruntime.runtimes.native import NativeRuntime

_CHUNK = 65536


def follow(runtime: NativeRuntime, id: str, pid: int, signals: CaughtSignals, relay: Relay | None,
           told: Notifications | None = None) -> None:
    """Return once the process, a child of this one, has ended.

    signals   entered before the process could run: whoever sees it run may send one
    relay     of its terminal, if it has one
    told      by its program, if somebody wants to know
    """
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        while True:
            wanted = {pidfd: select.POLLIN, signals.fileno(): select.POLLIN, **(relay.wanted() if relay is not None else {}),
                      **({told.fileno(): select.POLLIN} if told is not None else {})}
            for descriptor, events in wanted.items():
                poll.register(descriptor, events)
            ready = dict(poll.poll())
            for descriptor in wanted:
                poll.unregister(descriptor)
            if relay is not None:
                relay.pass_on(ready)
            if told is not None:
                told.pass_on(os.getpid())
            while number := signals.take():
                if number != signal.SIGWINCH:
                    runtime.kill_process(id, pid, number)
                elif relay is not None:
                    relay.resize()
            if pidfd in ready:
                if relay is not None:
                    relay.drain()
                return
    finally:
        os.close(pidfd)


def relay_of(terminal: int | None) -> contextlib.AbstractContextManager[Relay | None]:
    """terminal: the master of a process's pseudoterminal, if it has one"""
    return contextlib.nullcontext() if terminal is None else Relay(terminal)


class Relay:
    """Between standard input and output of this command and a terminal's master. A terminal of the command's own is raw meanwhile:
    what is typed means what the other one makes of it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._is_open = True
        self._reads_input = True
        self._shows_output = True
        self._typed = b""
        self._before: list[Any] | None = None

    def __enter__(self) -> Relay:
        try:
            os.set_blocking(self._master, False)
            if not os.isatty(1):
                self._leave_line_ends()
            self.resize()
            # last: what fails before leaves the command's terminal as it is
            if os.isatty(0):
                self._before = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSANOW)
        except termios.error as error:
            raise OSError(*error.args) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # one that was hung up meanwhile
                # at once: output that nobody takes is not waited for
                termios.tcsetattr(0, termios.TCSANOW, self._before)

    def _leave_line_ends(self) -> None:
        """A file or a pipe gets the lines that the program writes, without the carriage returns that only a terminal needs."""
        attributes = termios.tcgetattr(self._master)
        attributes[1] &= ~termios.ONLCR
        termios.tcsetattr(self._master, termios.TCSANOW, attributes)

    def resize(self) -> None:
        """As large as the terminal that this command runs in, if it runs in one."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            if any(struct.unpack("=4H", size)[:2]):
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def wanted(self) -> dict[int, int]:
        """What to poll for. Nothing more is read than the terminal takes."""
        found = {}
        if self._is_open:
            found[self._master] = select.POLLIN | (select.POLLOUT if self._typed else 0)
            if self._reads_input and not self._typed:
                found[0] = select.POLLIN
        return found

    def pass_on(self, ready: dict[int, int]) -> None:
        if 0 in ready:
            try:
                self._typed = os.read(0, _CHUNK)
            except OSError:  # EIO: it was hung up, of which SIGHUP tells the process
                self._typed = b""
            self._reads_input = bool(self._typed)
        if self._typed and self._is_open:
            try:
                self._typed = self._typed[os.write(self._master, self._typed):]
            except BlockingIOError:
                pass
            except OSError:
                self._typed = b""
        if self._master in ready:
            self._copy_output()

    def _copy_output(self) -> bool:
        """Whether there was any."""
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the other side open
            data = b""
        self._is_open = bool(data)
        while data and self._shows_output:
            try:
                data = data[os.write(1, data):]
            except OSError:  # nobody sees it any more; the process goes on, as with runc, and is not held up
                self._shows_output = False
        return self._is_open

    def drain(self) -> None:
        """What the process has written before its end."""
        while self._is_open and self._copy_output():
            pass
