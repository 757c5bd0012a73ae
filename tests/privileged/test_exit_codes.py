"""The installed runc and this command line, side by side: the same exit codes, and words on standard error where there are some of runc's."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import COMMAND, TIMEOUT_S, Line
from lab import Lab

from pyruntime.cli.arguments import COMMANDS
from pyruntime.cli.parser import command_parser, global_parser

RUNC_ID = "pyruntime-exit-codes"  # its cgroups are named so


class Side:
    """One of the two, with a container of its own."""

    def __init__(self, lab: Lab, program: str) -> None:
        # what sanitizers need is not for runc, nor for the ps(1) that it executes
        self._environment = {name: value for name, value in os.environ.items() if program != "runc" or name != "LD_PRELOAD"}
        self._words = [program, "--root", str(lab.directory / f"root-of-{Path(program).name}")]
        self.id = RUNC_ID if program == "runc" else "p1"
        self._pid_file = lab.directory / f"pid-of-{Path(program).name}"

    def call(self, *words: str) -> tuple[int, bool]:
        """The exit code, and whether there are words on standard error; `ID` is its container."""
        ended = subprocess.run([*self._words, *(self.id if word == "ID" else word for word in words)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, env=self._environment, timeout=TIMEOUT_S)
        return ended.returncode, bool(ended.stderr)

    def make(self, bundle: str, status: str) -> None:
        """A container of that status; standard error is the null device, which it keeps open."""
        words = [*self._words, "create", "--bundle", bundle, "--pid-file", str(self._pid_file), self.id]
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                       env=self._environment, timeout=TIMEOUT_S)
        pidfd = os.pidfd_open(int(self._pid_file.read_text()))
        if status != "created":
            assert self.call("start", "ID") == (0, False)
        if status == "paused":
            assert self.call("pause", "ID") == (0, False)
        if status == "stopped":
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], TIMEOUT_S)[0]
        os.close(pidfd)

    def clean_up(self) -> None:
        self.call("delete", "--force", "ID")


@pytest.fixture
def sides(line: Line) -> Iterator[tuple[Side, Side]]:
    made = Side(line.lab, "runc"), Side(line.lab, COMMAND)
    yield made
    for side in made:
        side.clean_up()


def agree(sides: tuple[Side, Side], *words: str) -> tuple[int, bool]:
    runcs, ours = (side.call(*words) for side in sides)
    assert ours == runcs, words
    return runcs


@pytest.mark.parametrize(("words", "code"), [
    ([], 0), (["help"], 0), (["--version"], 0), (["fly"], 3), (["--fast", "list"], 1), (["--log-format", "xml", "list"], 1),
    (["--rootless", "maybe", "state", "ID"], 1), (["--log", "/no/directory/log", "state", "ID"], 1), (["--systemd-cgroup=maybe", "list"], 1),
    (["state"], 1), (["state", "a", "b"], 1), (["state", "--fast", "ID"], 1), (["state", "ID"], 1), (["state", "../ID"], 1),
    (["create"], 1), (["create", "--preserve-fds", "many", "ID"], 1), (["create", "--bundle", "/no/bundle", "ID"], 1),
    (["run"], 1), (["run", "--bundle", "/no/bundle", "ID"], 1), (["run", "--no-pivot=maybe", "ID"], 1),
    (["start"], 1), (["start", "ID"], 1), (["kill"], 1), (["kill", "ID"], 1), (["kill", "ID", "FOO"], 1), (["kill", "ID", "9"], 1),
    (["delete"], 1), (["delete", "ID"], 1), (["delete", "--force", "ID"], 0), (["exec", "ID", "true"], 255),
    (["exec", "--fast", "ID", "true"], 1), (["pause"], 1), (["pause", "ID"], 1), (["resume", "ID"], 1), (["ps", "ID"], 1),
    (["ps", "--format", "xml", "ID"], 1), (["update", "--pids-limit", "5", "ID"], 1), (["update", "ID"], 1), (["events", "--stats", "ID"], 1),
    (["checkpoint", "ID"], 1),
    (["restore", "--bundle", "/no/bundle", "ID"], 1), (["spec", "--bundle", "/no/directory"], 1), (["features"], 0),
    (["features", "--help"], 0)], ids=lambda part: " ".join(part) if isinstance(part, list) else None)
def test_without_a_container(sides: tuple[Side, Side], words: list[str], code: int) -> None:
    assert agree(sides, *words)[0] == code


RUNNING = [
    (["state", "ID"], 0), (["start", "ID"], 1), (["delete", "ID"], 1), (["resume", "ID"], 1), (["create", "--bundle", "BUNDLE", "ID"], 1),
    (["run", "--bundle", "BUNDLE", "ID"], 1), (["kill", "ID", "FOO"], 1), (["kill", "ID", "CONT"], 0), (["ps", "ID"], 0),
    (["ps", "--format", "json", "ID"], 0), (["events", "--stats", "ID"], 0), (["update", "--pids-limit", "50", "ID"], 0),
    (["exec", "ID", "true"], 0), (["exec", "ID", "sh", "-c", "exit 7"], 7), (["exec", "ID", "sh", "-c", "exit 255"], 255),
    (["exec", "ID", "sh", "-c", "kill -9 $$"], 137), (["exec", "ID", "sh", "-c", "kill -TERM $$"], 143),
    (["exec", "ID", "no-such-program"], 255), (["exec", "ID", "/etc/not-executable"], 255), (["exec", "ID", "/bin"], 255),
    (["exec", "--cwd", "/no/directory", "ID", "true"], 255), (["exec", "--user", "root", "ID", "true"], 255),
    (["exec", "--process", "/no/file", "ID"], 255), (["exec", "--cgroup", "none", "ID", "true"], 255),
    (["exec", "--preserve-fds", "5", "ID", "true"], 255), (["exec", "--detach", "--tty", "ID", "true"], 255),
    (["exec", "--console-socket", "/no/socket", "--tty", "--detach", "ID", "true"], 255),
    (["exec", "--detach", "--pid-file", "/no/directory/pid", "ID", "true"], 255), (["exec", "--detach", "ID", "true"], 0)]
STOPPED = [(["state", "ID"], 0), (["kill", "ID", "9"], 1), (["kill", "ID", "TERM"], 1), (["start", "ID"], 1), (["exec", "ID", "true"], 255),
           (["pause", "ID"], 1), (["resume", "ID"], 1), (["events", "--stats", "ID"], 1), (["delete", "ID"], 0), (["delete", "ID"], 1),
           (["delete", "--force", "ID"], 0)]
CREATED = [(["state", "ID"], 0), (["resume", "ID"], 1), (["exec", "ID", "sh", "-c", "exit 3"], 3), (["start", "ID"], 0), (["start", "ID"], 1),
           (["kill", "ID", "KILL"], 0)]
PAUSED = [(["state", "ID"], 0), (["pause", "ID"], 1), (["exec", "ID", "true"], 255), (["start", "ID"], 1), (["delete", "ID"], 1),
          (["resume", "ID"], 0), (["resume", "ID"], 1), (["delete", "--force", "ID"], 0)]


@pytest.mark.parametrize(("status", "steps"), [("running", RUNNING), ("stopped", STOPPED), ("created", CREATED), ("paused", PAUSED)])
def test_with_a_container(sides: tuple[Side, Side], line: Line, status: str, steps: list[tuple[list[str], int]]) -> None:
    """One step after the other."""
    bundle = line.lab.bundle(["/bin/sleep", "1000"])
    for side in sides:
        side.make(bundle, status)
    found = [agree(sides, *(bundle if word == "BUNDLE" else word for word in words)) for words, _ in steps]
    assert [code for code, _ in found] == [code for _, code in steps]


@pytest.mark.parametrize(("script", "code"), [
    ("exit 0", 0), ("exit 5", 5), ("exit 255", 255), ("echo wrong >&2; exit 1", 1), ("sleep 9 & kill -9 $!; wait $! 2>/dev/null", 137)])
def test_run_to_the_end(sides: tuple[Side, Side], line: Line, script: str, code: int) -> None:
    bundle = line.lab.bundle(script)
    for _ in range(2):  # the second time with a plan that is kept
        assert agree(sides, "run", "--bundle", bundle, "ID")[0] == code


@pytest.mark.parametrize("changes", [
    {"process": {"cwd": "/no/directory-of-a-file/../../etc/passwd/x"}}, {"hooks": {"prestart": [{"path": "/bin/false"}]}},
    {"mounts": [{"destination": "/x", "type": "none-such", "source": "none"}]}, {"root": None}], ids=["cwd", "hook", "mount", "no root"])
def test_run_of_what_cannot_be_made(sides: tuple[Side, Side], line: Line, changes: dict[str, object]) -> None:
    assert agree(sides, "run", "--bundle", line.lab.bundle("true", **changes), "ID") == (1, True)


@pytest.mark.parametrize("program", [["no-such-program"], ["/etc/not-executable"], ["/bin"]])
def test_run_of_what_cannot_be_executed(sides: tuple[Side, Side], line: Line, program: list[str]) -> None:
    assert agree(sides, "run", "--bundle", line.lab.bundle(program), "ID") == (1, True)
    assert agree(sides, "create", "--bundle", line.lab.bundle(program), "ID") == (1, True)


def options_of_runc(*command: str) -> list[tuple[str, bool]]:
    """Each spelling of the options that its help shows, and whether a value belongs to it."""
    shown = subprocess.run(["runc", *command, "--help"], capture_output=True, text=True, check=True).stdout.partition("OPTIONS:\n")[2]
    rows = (re.match(r" +(--[\w-]+)( value)?(?:, (-\w))?", row) for row in shown.splitlines())
    return [(name, bool(row[2])) for row in rows if row is not None for name in (row[1], row[3]) if name]


@pytest.mark.parametrize("command", ["", *(name for name in COMMANDS if name not in ("plan", "doctor", "completion"))])
def test_each_option_of_runc_is_one(command: str) -> None:
    """In its long form and its short one, with a value where it takes one."""
    parser = command_parser(command) if command else global_parser()
    known = {name: action.nargs != 0 for name, action in parser._option_string_actions.items() if "=" not in name}
    found = options_of_runc(*([command] if command else []))
    assert {name: takes_value for name, takes_value in found if name not in ("--help", "-h")}.items() <= known.items()
    assert found or command in ("start", "state", "pause", "resume", "features")
