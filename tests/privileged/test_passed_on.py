"""Descriptors that a command is given for its process, and what it gives of it: by Python, and where a plan is kept."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import COMMAND, TIMEOUT_S, Line, receive
from test_front_end import HANDED_OVER, Bare, bare  # noqa: F401  # a fixture

SHOW = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; for fd in 3 4 5; do readlink /proc/self/fd/$fd || echo none; done"


def with_files(line: Line, names: str, environment: str, program: str, *words: str) -> list[str]:
    """What a command says to which files are given from descriptor 3 on, by the names of the files."""
    for name in names:
        (line.lab.directory / name).touch()
    redirections = " ".join(f"{number}<{line.lab.directory}/{name}" for number, name in enumerate(names, 3))
    script = f"exec {redirections}; {environment} exec \"$@\""
    ended = subprocess.run(["bash", "-c", script, "bash", program, *words], capture_output=True, text=True, check=False,
                           stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    first, *files = ended.stdout.splitlines()
    return [first, *(Path(name).name for name in files)]


@pytest.mark.conformance(62)
@pytest.mark.parametrize("program", [COMMAND, f"{COMMAND}-python"], ids=["front end", "python"])
def test_exec_preserves_descriptors(service: Line, program: str) -> None:
    """As many as are asked for, whether the same was executed before or not."""
    for _ in range(2):
        words = service.arguments("exec", "--preserve-fds", "2", "p1", "/bin/sh", "-c", SHOW)[1:]
        assert with_files(service, "abc", "", program, *words) == ["", "a", "b", "none"]
        words = service.arguments("exec", "p1", "/bin/sh", "-c", SHOW)[1:]
        assert with_files(service, "abc", "", program, *words) == ["", "none", "none", "none"]
    assert "3 is not open" in service.fail("exec", "--preserve-fds", "2", "p1", "/bin/true", code=255)


@pytest.mark.conformance(62)
def test_sockets_to_listen_on_where_a_plan_is_kept(line: Line, bare: Bare) -> None:  # noqa: F811
    """They are the container's of that time alone: the plan is made of none of them, and knows of none later."""
    words = ["run", "--bundle", line.lab.bundle(SHOW), "p1"]
    variables = "export LISTEN_FDS=2 LISTEN_FDNAMES=x:y LISTEN_PID="
    assert with_files(line, "ab", "", *line.arguments(*words)) == ["", "none", "none", "none"]
    assert bare(*words).stdout == "\nnone\nnone\nnone\n"  # kept
    assert with_files(line, "ab", f"{variables}$$;", *line.arguments(*words)) == ["2 1 x:y", "a", "b", "none"]
    assert with_files(line, "ab", f"{variables}$PPID;", *line.arguments(*words)) == ["", "none", "none", "none"]
    assert bare(*words).stdout == "\nnone\nnone\nnone\n"
    # it is Python's to pass them on
    front = [str(line.lab.directory / "bin" / "pyruntime"), "--root", str(line.lab.root), *words]
    script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3</dev/null \"$@\""
    assert subprocess.run(["bash", "-c", script, "bash", *front], check=False, stdin=subprocess.DEVNULL).returncode == HANDED_OVER
    assert line.succeed("list", "-q") == ""


@pytest.fixture
def listener(line: Line) -> Iterator[tuple[socket.socket, str]]:
    path = str(line.lab.directory / "pidfd")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)
        made.listen()
        made.settimeout(TIMEOUT_S)
        yield made, path


def ended_by(pidfd: int) -> None:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    os.close(pidfd)


def test_run_tells_a_pidfd(line: Line, listener: tuple[socket.socket, str]) -> None:
    """Of the container's init: whoever has it may end that. The second time a plan is kept, which makes no difference."""
    words = ["--pidfd-socket", listener[1], "--bundle", line.lab.bundle("echo ready; exec sleep 1000"), "p1"]
    for _ in range(2):
        line.detach("run", "--detach", *words)
        _, pidfd = receive(listener[0])
        assert line.status() == "running"
        ended_by(pidfd)
        assert line.status() == "stopped"
        line.succeed("delete", "p1")
        with subprocess.Popen(line.arguments("run", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as made:
            _, pidfd = receive(listener[0])
            assert made.stdout is not None and made.stdout.readline() == "ready\n"
            ended_by(pidfd)
            assert made.wait(TIMEOUT_S) == 137
        assert line.succeed("list", "-q") == ""


def test_exec_in_the_foreground_tells_a_pidfd(service: Line, listener: tuple[socket.socket, str]) -> None:
    for _ in range(2):
        words = service.arguments("exec", "--pidfd-socket", listener[1], "p1", "sleep", "1000")
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as made:
            _, pidfd = receive(listener[0])
            ended_by(pidfd)
            assert made.wait(TIMEOUT_S) == 137
