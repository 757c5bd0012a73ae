"""Docker's daemons and shims are killed while a container runs, of this runtime's or of runc's: it goes on, and what is left can be removed."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator

import pytest
from containerd import end
from docker_daemon import Docker, running
from engine import COMMAND_TIMEOUT_S, PYRUNTIME, Engine

pytestmark = pytest.mark.privileged
# writes a line for each one that it reads from a file, so that it can be seen to go on
ECHO = "busybox mkfifo /line; exec 3<>/line; echo started; while read line <&3; do echo got $line; test $line = end && exit 9; done"


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with running("--add-runtime", f"pyruntime={PYRUNTIME}", "--live-restore") as docker:
        yield docker


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Docker) -> Iterator[Engine]:
    yield docker.with_runtime(request.param)
    docker("rm", "-f", "c1")
    assert docker.left_of_containers() == []


@pytest.fixture
def service(docker: Docker, engine: Engine) -> int:
    """A container c1; the pid of its first process."""
    assert engine.run("-d", "--name", "c1", "box", "sh", "-c", ECHO).code == 0
    engine.await_output("c1", "started")
    return int(docker.state("c1", "Pid"))


def say(pid: int, line: str) -> None:
    """To the container's program, without the engine."""
    with open(f"/proc/{pid}/root/line", "w") as fifo:
        fifo.write(f"{line}\n")


def stop_daemon(docker: Docker) -> None:
    docker.stop()


def kill_daemon(docker: Docker) -> None:
    docker.kill()


def kill_both(docker: Docker) -> None:
    docker.kill()
    docker.containerd.kill()
    docker.containerd.start()


@pytest.mark.parametrize("leave", [stop_daemon, kill_daemon, kill_both])
def test_a_container_without_its_daemon(docker: Docker, engine: Engine, service: int, leave: Callable[[Docker], None]) -> None:
    """It runs and writes; the next daemon has it as it was, with what it wrote, executes in it and hears of its end."""
    leave(docker)
    say(service, "alone")
    docker.start()
    assert (docker.state("c1", "Pid"), docker.state("c1", "Status")) == (service, "running")
    engine.await_output("c1", "got alone")
    assert docker("exec", "c1", "sh", "-c", "echo inside; exit 6").out == "inside"
    assert docker("exec", "c1", "sh", "-c", "exit 6").code == 6
    say(service, "end")
    assert docker.succeed("wait", "c1") == "9"
    assert docker.succeed("logs", "c1").splitlines() == ["started", "got alone", "got end"]


def test_a_container_that_ends_without_its_daemon(docker: Docker, engine: Engine, service: int) -> None:
    docker.stop()
    descriptor = os.pidfd_open(service)
    say(service, "end")
    assert select.select([descriptor], [], [], COMMAND_TIMEOUT_S)[0]
    os.close(descriptor)
    docker.start()
    docker.await_state("c1", "Status", "exited")
    assert docker.state("c1", "ExitCode") == 9
    docker.succeed("start", "c1")
    assert docker.state("c1", "Status") == "running"


def test_a_shim_that_is_killed(docker: Docker, engine: Engine, service: int) -> None:
    """containerd deletes the container by the runtime's command, and it is gone by the time that Docker hears of it."""
    descriptor = os.pidfd_open(service)
    (shim,) = docker.containerd.shims()
    end(shim)
    docker.await_state("c1", "Status", "exited")
    assert select.select([descriptor], [], [], COMMAND_TIMEOUT_S)[0]
    os.close(descriptor)
    assert docker.left_of_containers() == []
    docker.succeed("start", "c1")
    engine.await_output("c1", "started\nstarted")
    assert docker("exec", "c1", "sh", "-c", "exit 6").code == 6


def test_everything_is_killed(docker: Docker, engine: Engine, service: int) -> None:
    """The runtime's command alone knows of the container, and what it does then is no harm to the engine that comes back."""
    (shim,) = docker.containerd.shims()
    id = docker.succeed("inspect", "-f", "{{.Id}}", "c1")
    docker.kill()
    docker.containerd.kill()
    end(shim)
    say(service, "alone")
    program = PYRUNTIME if "pyruntime" in engine.run_options else "runc"
    command = [program, "--root", str(docker.runtime_root())]
    listed = json.loads(subprocess.run([*command, "list", "--format", "json"], capture_output=True, check=True).stdout)
    assert [(entry["id"], entry["status"], entry["pid"]) for entry in listed] == [(id, "running", service)]
    descriptor = os.pidfd_open(service)
    subprocess.run([*command, "delete", "--force", id], check=True)
    assert select.select([descriptor], [], [], 0)[0]
    os.close(descriptor)
    docker.containerd.start()
    docker.start()
    assert docker.state("c1", "Status") == "exited"
    docker.succeed("rm", "c1")
    assert docker.left_of_containers() == []
