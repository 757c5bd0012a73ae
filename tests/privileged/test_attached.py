"""run and exec while they wait: signals go on to the program, and the terminal that was typed into is as it was, whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_lab import COMMAND, TIMEOUT_S, Line
from lab import bind, with_mounts
from test_front_end import bare  # noqa: F401  # a fixture

REAL_TIME = 40
# all that runc passes on; what is about the command itself is not
PASSED_ON = sorted(set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGURG, signal.SIGTTIN, signal.SIGTTOU,
                                        signal.SIGWINCH, 32, 33})
NAMED = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT,
         signal.SIGSEGV, REAL_TIME]
# says which it has got, until it is told to end
SAYS = ["/bin/sh", "-c", "for n in {numbers}; do trap \"echo got $n\" $n; done; trap 'exit 7' 64; echo ready; while :; do sleep 0.02; done"]


def says(numbers: list[int]) -> list[str]:
    return [*SAYS[:2], SAYS[2].replace("{numbers}", " ".join(str(int(number)) for number in numbers))]


@contextlib.contextmanager
def ready(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as made:
        assert made.stdout is not None and made.stdout.readline() == "ready\n"
        try:
            yield made
        finally:
            made.kill()


def runs(line: Line, who: str, *arguments: str) -> list[str]:
    """The command by Python alone, or by the front end alone, which hands nothing over."""
    if who == "python":
        return [f"{COMMAND}-python", *line.arguments(*arguments)[1:]]
    return [str(line.lab.directory / "bin" / "pyruntime"), "--root", str(line.lab.root), *arguments]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("who", ["python", "front end"])
@pytest.mark.parametrize("command", ["run", "exec"])
def test_signals_that_are_passed_on(line: Line, command: str, who: str) -> None:
    """As runc does: of any number. What comes for one that the program has no use for ends neither."""
    numbers = [number for number in PASSED_ON if number != 64]
    if command == "run":
        words = ["run", "--bundle", line.lab.bundle(says(numbers)), "p1"]
    else:
        line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"]), "p1")
        words = ["exec", "p1", *says(numbers)]
    if who == "front end":  # which needs a plan that is kept
        with ready(runs(line, "python", *words)) as first:
            first.send_signal(64)
            assert first.wait(TIMEOUT_S) == 7
    with ready(runs(line, who, *words)) as made:
        assert made.stdout is not None
        for number in numbers:
            made.send_signal(number)
            assert made.stdout.readline() == f"got {number}\n"
        for number in (signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD):  # runc keeps these
            made.send_signal(number)
        made.send_signal(64)
        assert (made.stdout.read(), made.wait(TIMEOUT_S)) == ("", 7)
    if command == "exec":
        line.succeed("delete", "--force", "p1")
    assert line.succeed("list", "-q") == ""


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("who", ["python", "front end"])
def test_signals_that_a_program_does_not_expect_end_it(service: Line, who: str) -> None:
    """And the command tells of it, as runc does: it ends with 128 and the signal's number."""
    # a shell catches SIGQUIT until it executes another program
    (service.lab.rootfs / "ready").write_text("ready\n")
    words = ["exec", "p1", "/bin/tail", "-f", "/ready"]
    with ready(runs(service, "python", *words)) as first:
        first.send_signal(signal.SIGTERM)
        assert first.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    for number in NAMED:
        if number == signal.SIGCONT:
            continue
        with ready(runs(service, who, *words)) as made:
            made.send_signal(number)
            assert made.wait(TIMEOUT_S) == 128 + number


class Terminal:
    """One that a person sits at: what it is set to is looked at before and after."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.resize(33, 44)
        self.before = self.modes()
        self.shown = b""

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))

    def call(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
                                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None)

    def await_shown(self, text: bytes) -> None:
        end = time.monotonic() + TIMEOUT_S
        while text not in self.shown:
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], self.shown
            self.shown += os.read(self.master, 4096)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def is_raw(terminal: Terminal) -> bool:
    return not terminal.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def words_of(line: Line, command: str, script: str) -> list[str]:
    """A command with a terminal; for exec p1 runs."""
    if command == "run":
        return line.arguments("run", "--bundle", line.lab.bundle(script, process={"terminal": True}), "p1")
    line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"]), "p1")
    return line.arguments("exec", "--tty", "p1", "/bin/sh", "-c", script)


TYPED = "echo ready; read typed; "
# by pid 1 too, which gets of others only what it handles
TRAPS = "for n in 1 2 3 6 8 10 11 13 14 15 40; do trap 'echo told; exit 9' $n; done; "


@pytest.mark.conformance(11)
@pytest.mark.parametrize("command", ["run", "exec"])
@pytest.mark.parametrize(("rest", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$; sleep 9", None)], ids=["end", "error", "signal"])
def test_the_terminal_is_as_before_when_the_program_ends(line: Line, terminal: Terminal, command: str, rest: str, code: int | None) -> None:
    words = words_of(line, command, f"{TYPED}stty -echo 2>/dev/null; {rest if code is not None or command == 'exec' else 'exit 4'}")
    made = terminal.call(words)
    terminal.await_shown(b"ready")
    assert is_raw(terminal)
    terminal.type(b"word\r")
    assert made.wait(TIMEOUT_S) == (code if code is not None else 137 if command == "exec" else 4)
    assert terminal.modes() == terminal.before
    if command == "exec":
        line.succeed("delete", "--force", "p1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGFPE,
                                    signal.SIGABRT, signal.SIGSEGV, signal.SIGPIPE, REAL_TIME])
@pytest.mark.parametrize("command", ["run", "exec"])
def test_the_terminal_is_as_before_when_the_command_is_signalled(line: Line, terminal: Terminal, command: str, number: int) -> None:
    """Whatever can be caught is the program's to end by, and so ends the command after it."""
    made = terminal.call(words_of(line, command, f"{TRAPS}echo ready; while :; do sleep 0.02; done"))
    terminal.await_shown(b"ready")
    assert is_raw(terminal)
    made.send_signal(number)
    assert made.wait(TIMEOUT_S) == 9
    terminal.await_shown(b"told")
    assert terminal.modes() == terminal.before
    if command == "exec":
        line.succeed("delete", "--force", "p1")


@pytest.mark.parametrize("command", ["run", "exec"])
def test_the_terminal_is_as_before_when_the_container_is_killed(line: Line, terminal: Terminal, command: str) -> None:
    made = terminal.call(words_of(line, command, "echo ready; exec sleep 1000"))
    terminal.await_shown(b"ready")
    line.succeed("kill", "p1", "KILL")
    assert made.wait(TIMEOUT_S) == 137
    assert terminal.modes() == terminal.before
    if command == "exec":
        line.succeed("delete", "--force", "p1")


def test_the_terminal_is_as_before_when_the_start_fails(line: Line, terminal: Terminal) -> None:
    """Also for the error, which is shown on it: its lines begin at the left."""
    refused = {"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}
    bundle = line.lab.bundle("true", process={"terminal": True}, hooks={"startContainer": [refused]})
    made = terminal.call(line.arguments("run", "--bundle", bundle, "p1"))
    assert made.wait(TIMEOUT_S) == 1
    terminal.await_shown(b"exited with 3\r\n")
    assert terminal.modes() == terminal.before and line.succeed("list", "-q") == ""


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_relay_that_cannot_begin_leaves_terminal_and_nothing_else(line: Line, terminal: Terminal, command: str, tmp_path: Path) -> None:
    """Where the program's terminal cannot be set: made to fail, since a kernel does not."""
    words = words_of(line, command, "echo ready; exec sleep 1000")
    (tmp_path / "sitecustomize.py").write_text(
        "import termios\noriginal = termios.tcsetattr\n"
        "def failing(descriptor, *rest):\n"
        "    if descriptor > 2:\n        raise termios.error(5, 'Input/output error')\n"
        "    return original(descriptor, *rest)\n"
        "termios.tcsetattr = failing\n")
    output = line.lab.directory / "output"
    with output.open("w") as out:  # where line ends are set
        made = subprocess.Popen([f"{COMMAND}-python", *words[1:]], stdin=terminal.slave, stdout=out, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": str(tmp_path)})
        _, told = made.communicate(timeout=TIMEOUT_S)
    assert made.returncode == (1 if command == "run" else 255) and told == "pyruntime: EIO: input/output error\n"
    assert terminal.modes() == terminal.before
    if command == "exec":
        assert [path.name for path in (line.lab.root / "p1").glob("process-*")] == []
        line.succeed("delete", "--force", "p1")
    assert line.succeed("list", "-q") == ""


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_terminal_that_goes_away(line: Line, command: str) -> None:
    """The program is told by SIGHUP, as with runc, and what it still says keeps it from nothing."""
    done = line.lab.directory / "done"
    os.mkfifo(done)
    mounts = with_mounts(bind(done, "bind", to="/tmp/done"))
    script = "trap 'yes | head -c 200000; echo it has ended >/tmp/done; exit 6' HUP; echo ready; while :; do sleep 0.02; done"
    if command == "run":
        words = line.arguments("run", "--bundle", line.lab.bundle(script, process={"terminal": True}, mounts=mounts), "p1")
    else:
        line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"], mounts=mounts), "p1")
        words = line.arguments("exec", "--tty", "p1", "/bin/sh", "-c", script)
    terminal = Terminal()
    reader = os.open(done, os.O_RDONLY | os.O_NONBLOCK)
    made = terminal.call(words)
    terminal.await_shown(b"ready")
    terminal.close()
    assert made.wait(TIMEOUT_S) == 6
    assert os.read(reader, 100) == b"it has ended\n"
    os.close(reader)
    if command == "exec":
        line.succeed("delete", "--force", "p1")


@pytest.mark.conformance(11)
@pytest.mark.parametrize("command", ["run", "exec"])
def test_the_size_of_the_terminal(line: Line, terminal: Terminal, command: str) -> None:
    """That of the command's, from the beginning and whenever it changes: the program is told, as with runc."""
    made = terminal.call(words_of(line, command, "stty size; trap 'stty size; exit 8' WINCH; echo ready; while :; do sleep 0.02; done"))
    terminal.await_shown(b"ready")
    assert b"33 44\r\n" in terminal.shown
    terminal.resize(51, 62)
    assert made.wait(TIMEOUT_S) == 8
    terminal.await_shown(b"51 62\r\n")
    if command == "exec":
        line.succeed("delete", "--force", "p1")
