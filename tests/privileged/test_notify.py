"""sd_notify(3): what a container's program says of itself is told to who started it, as a service manager does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import prctl
import pytest
from command_lab import COMMAND, TIMEOUT_S, Line

SOURCE = Path(__file__).parents[1] / "says/says.c"


@pytest.fixture(scope="module")
def says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("says")
    subprocess.run(["musl-gcc", "-Os", "-static", "-Wall", "-Wextra", "-Werror", "-o", directory / "says", SOURCE], check=True)
    return directory / "says"


class Manager:
    """Whoever waits for the service. A barrier stands until it is heard."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(TIMEOUT_S)
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(path)}

    def hear(self) -> list[str]:
        """The lines of a message; of a barrier, whose descriptor is closed."""
        message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 4)
        for descriptor in descriptors:
            os.close(descriptor)
        return message.decode().split("\n")

    def hears_nothing(self) -> bool:
        return not select.select([self._socket], [], [], 0.2)[0]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(line: Line) -> Iterator[Manager]:
    made = Manager(line.lab.directory / "manager")
    yield made
    made.close()


@pytest.fixture
def subreaper(line: Line) -> Iterator[None]:
    prctl.set_child_subreaper(1)
    yield
    prctl.set_child_subreaper(0)


def bundle(line: Line, says: Path, script: str, **changes: object) -> str:
    shutil.copy(says, line.lab.rootfs / "bin")
    return line.lab.bundle(script, **changes)


def spawn(line: Line, manager: Manager | None, *arguments: str) -> subprocess.Popen[bytes]:
    environment = manager.environment if manager is not None else {**os.environ}
    return subprocess.Popen([COMMAND, "--root", str(line.lab.root), *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            env=environment)


def await_running(line: Line) -> None:
    """What `start` has begun, before it ends."""
    while line.status() != "running":
        time.sleep(0.05)


@contextlib.contextmanager
def service_that_starts(line: Line, manager: Manager, says: Path, pid_file: Path) -> Iterator[
        tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """p1 while `start` waits for it, and what has it say that it is ready."""
    path = bundle(line, says, "says - 'READY=1'; exec sleep 1000")
    with spawn(line, manager, "create", "--bundle", path, "--pid-file", str(pid_file), "p1") as created:
        assert created.wait(TIMEOUT_S) == 0 and created.stdin is not None
        pipe = created.stdin

        def say() -> None:
            pipe.write(b"\n")
            pipe.flush()

        with spawn(line, manager, "start", "p1") as made:
            await_running(line)
            yield made, say


def test_a_service_that_is_waited_for(line: Line, manager: Manager, says: Path) -> None:
    """In the foreground: all that is a service's to say, and with it this command's pid, which the manager knows."""
    path = bundle(line, says, "says 'STATUS=begins' 'READY=1\nMAINPID=1\nFDSTORE=1' - 'STOPPING=1' 'BARRIER=1'; exit 3")
    with spawn(line, manager, "run", "--bundle", path, "p1") as made:
        assert made.stdin is not None
        assert manager.hear() == ["STATUS=begins"]
        assert manager.hear() == ["READY=1", f"MAINPID={made.pid}"] and manager.hear() == ["BARRIER=1"]
        made.stdin.write(b"\n")
        made.stdin.flush()
        assert manager.hear() == ["STOPPING=1"]
        assert made.wait(TIMEOUT_S) == 3
    assert manager.hears_nothing() and not (line.lab.root / "p1").exists()


@pytest.mark.usefixtures("subreaper")
def test_a_service_that_goes_on_by_itself(line: Line, manager: Manager, says: Path) -> None:
    """`start` ends when it is ready and the manager has read that; the pid is that of the container."""
    pid_file = line.lab.directory / "pid"
    with service_that_starts(line, manager, says, pid_file) as (made, say):
        with pytest.raises(subprocess.TimeoutExpired):
            made.wait(0.3)
        assert manager.hears_nothing()
        say()
        assert manager.hear() == ["READY=1", f"MAINPID={pid_file.read_text()}"]
        with pytest.raises(subprocess.TimeoutExpired):
            made.wait(0.3)
        assert manager.hear() == ["BARRIER=1"] and made.wait(TIMEOUT_S) == 0
    line.succeed("delete", "--force", "p1")
    os.waitpid(int(pid_file.read_text()), 0)
    assert list(line.lab.root.iterdir()) == []


@pytest.mark.usefixtures("subreaper")
def test_what_is_refused_takes_nothing_from_who_waits(line: Line, manager: Manager, says: Path) -> None:
    """A second `start`: of one that runs, and of one that has ended."""
    pid_file = line.lab.directory / "pid"
    with service_that_starts(line, manager, says, pid_file) as (made, say):
        without, again = line("start", "p1"), line("start", "p1", env=manager.environment)
        assert again.returncode == without.returncode != 0 and again.stderr == without.stderr
        say()
        assert manager.hear()[0] == "READY=1" and manager.hear() == ["BARRIER=1"] and made.wait(TIMEOUT_S) == 0
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    os.waitpid(int(pid_file.read_text()), 0)
    without, again = line("start", "p1"), line("start", "p1", env=manager.environment)
    assert again.returncode == without.returncode != 0 and again.stderr == without.stderr and "stopped" in again.stderr
    line.succeed("delete", "p1")


@pytest.mark.usefixtures("subreaper")
@pytest.mark.parametrize("user", [{"uid": 0, "gid": 0}, {"uid": 1000, "gid": 1000}], ids=["root", "user"])
def test_one_command_that_does_not_wait(user: dict[str, int], line: Line, manager: Manager, says: Path) -> None:
    path = bundle(line, says, "says 'READY=1'; exec sleep 1000", process={"user": user}, root={"path": str(line.lab.rootfs), "readonly": False})
    with spawn(line, manager, "run", "--detach", "--bundle", path, "p1") as made:
        heard = manager.hear()
        assert heard[0] == "READY=1" and manager.hear() == ["BARRIER=1"] and made.wait(TIMEOUT_S) == 0
        pid = json.loads(line.succeed("state", "p1"))["pid"]
        assert heard[1] == f"MAINPID={pid}"
    line.succeed("delete", "--force", "p1")
    os.waitpid(pid, 0)


@pytest.mark.usefixtures("subreaper")
def test_one_that_ends_before_it_is_ready(line: Line, manager: Manager, says: Path) -> None:
    path = bundle(line, says, "says STATUS=no; exit 1")
    pid_file = line.lab.directory / "pid"
    with spawn(line, manager, "run", "--detach", "--pid-file", str(pid_file), "--bundle", path, "p1") as made:
        assert manager.hear() == ["STATUS=no"] and made.wait(TIMEOUT_S) == 0
    assert manager.hears_nothing() and line.status() == "stopped"
    line.succeed("delete", "p1")
    os.waitpid(int(pid_file.read_text()), 0)


def test_nobody_waits(line: Line, manager: Manager, says: Path) -> None:
    """Then the program has no such socket, and the next one of the same bundle neither; the variable of the caller is none of its business."""
    path = bundle(line, says, "env | grep NOTIFY; says READY=1")
    for _ in range(2):
        assert line("run", "--bundle", path, "p1", env={**os.environ, "NOTIFY_SOCKET": ""}).returncode == 1
    ended = line("run", "--bundle", path, "p1", env=manager.environment)
    assert (ended.returncode, ended.stdout) == (0, "NOTIFY_SOCKET=/run/notify/notify.sock\n")


def test_a_manager_that_has_gone(line: Line, manager: Manager, says: Path) -> None:
    """It is told, and the container runs."""
    path = bundle(line, says, "says READY=1; exit 4")
    manager.close()
    ended = line("run", "--bundle", path, "p1", env=manager.environment)
    assert ended.returncode == 4
    (warning,) = [json.loads(text)["msg"] for text in line.log.read_text().splitlines()]
    assert warning == f"container p1: nobody is notified: connect to NOTIFY_SOCKET {str(manager.path)!r}: ECONNREFUSED: connection refused"


def test_an_abstract_address_and_a_long_path(line: Line, manager: Manager, says: Path) -> None:
    """Of the manager's socket, and of the root."""
    name = f"pyruntime-test-{os.getpid()}"
    path = bundle(line, says, "says READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(TIMEOUT_S)
        command = [COMMAND, "--root", line.lab.directory / ("r" * 120), "run", "--bundle", path, "p1"]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": f"@{name}"}) as made:
            assert listening.recv(100).startswith(b"READY=1\nMAINPID=")
            message, descriptors, _, _ = socket.recv_fds(listening, 100, 1)
            assert message == b"BARRIER=1"
            os.close(descriptors[0])
            assert made.wait(TIMEOUT_S) == 0
