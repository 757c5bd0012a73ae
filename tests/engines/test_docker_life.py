"""What Docker tells of a container while it lives and when it has ended, with this runtime and with runc."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from docker_daemon import Docker, running
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, PYRUNTIME, Engine

pytestmark = pytest.mark.privileged
MEBIBYTE = 1 << 20
UNITS = {"KiB": 1 << 10, "MiB": MEBIBYTE, "GiB": 1 << 30, "B": 1}
LIMITED = ("--memory=32m", "--memory-swap=32m")
GREEDY = "dd if=/dev/zero of=/dev/null count=1 bs=200M"


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """That has the runtime by its command line, and would have the containers go on without it."""
    with running("--add-runtime", f"pyruntime={PYRUNTIME}", "--live-restore") as docker:
        yield docker


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Docker) -> Iterator[Engine]:
    yield docker.with_runtime(request.param)
    docker("rm", "-f", "c1")
    assert docker.left_of_containers() == []


def byte_count(text: str) -> int:
    """`24.5MiB` is 25690112."""
    unit = next(unit for unit in UNITS if text.endswith(unit))
    return int(float(text.removesuffix(unit)) * UNITS[unit])


def wait_for(file: str) -> str:
    return f"until test -e {file}; do sleep 0.05; done"


def test_the_daemon_knows_the_runtime(docker: Docker) -> None:
    runtimes = json.loads(docker.succeed("info", "--format", "{{json .Runtimes}}"))
    assert runtimes["pyruntime"]["path"] == PYRUNTIME


def test_events(docker: Docker, engine: Engine) -> None:
    ended = engine.run("-i", "--name", "c1", "box", "sh", "-c", "exit 3", stdin="")
    assert ended.code == 3, ended
    docker.succeed("rm", "c1")
    assert docker.events("c1")[-5:] == ["create", "attach", "start", "die 3", "destroy"]


def test_events_of_processes_and_signals(docker: Docker, engine: Engine) -> None:
    before = len(docker.events("c1"))
    assert engine.run("-d", "--name", "c1", "box", "sleep", "1000").code == 0
    assert docker("exec", "c1", "sh", "-c", "exit 6").code == 6
    docker.succeed("pause", "c1")
    docker.succeed("unpause", "c1")
    docker.succeed("kill", "c1")
    docker.await_state("c1", "Running", False)
    docker.succeed("rm", "c1")
    assert docker.events("c1")[before:] == ["create", "start", "exec_create: sh -c exit 6", "exec_start: sh -c exit 6", "exec_die 6",
                                            "pause", "unpause", "kill 9", "die 137", "destroy"]


def test_statistics(docker: Docker, engine: Engine) -> None:
    """What is in a tmpfs is a container's memory; two processes wait, and the third one computes."""
    script = "head -c 24000000 /dev/zero >/dev/shm/file; sleep 1000 & echo ready; while :; do :; done"
    assert engine.run("-d", "--name", "c1", "--memory=64m", "--pids-limit=50", "box", "sh", "-c", script).code == 0
    engine.await_output("c1", "ready")
    told = json.loads(docker.succeed("stats", "--no-stream", "--format", "{{json .}}", "c1"))
    used, limit = (byte_count(text) for text in told["MemUsage"].split(" / "))
    assert (told["PIDs"], limit) == ("2", 64 * MEBIBYTE)
    assert 23_900_000 < used < 30_000_000
    assert float(told["CPUPerc"].removesuffix("%")) > 5


def test_memory_that_ran_out(docker: Docker, engine: Engine) -> None:
    """For one process: it is told of while the container goes on. The shim watches for it from when the start has returned."""
    script = f"{wait_for('/go')}; {GREEDY}; code=$?; {wait_for('/end')}; exit $code"
    before = len(docker.events("c1"))
    assert engine.run("-d", "--name", "c1", *LIMITED, "box", "sh", "-c", script).code == 0
    docker.succeed("exec", "c1", "touch", "/go")
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while "oom" not in docker.events("c1")[before:]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert docker.state("c1", "Running") is True
    docker.succeed("exec", "c1", "touch", "/end")
    assert docker.succeed("wait", "c1") == "137"
    assert docker.state("c1", "OOMKilled") is True


def test_memory_that_ran_out_for_the_first_process(docker: Docker, engine: Engine) -> None:
    """systemd removes its cgroup at once, and with it what the shim would read, whichever runtime it is."""
    assert engine.run("-d", "--name", "c1", *LIMITED, "box", "sh", "-c", f"{wait_for('/go')}; exec {GREEDY}").code == 0
    docker.succeed("exec", "c1", "touch", "/go")
    assert docker.succeed("wait", "c1") == "137"
    if CGROUP_DRIVER != "systemd":
        docker.await_state("c1", "OOMKilled", True)


def test_restart(docker: Docker, engine: Engine) -> None:
    """Another process with the same files."""
    script = "trap 'exit 0' TERM; ls /kept; touch /kept; echo started; while :; do sleep 0.1; done"
    assert engine.run("-d", "--name", "c1", "box", "sh", "-c", script).code == 0
    engine.await_output("c1", "started")
    pid = docker.state("c1", "Pid")
    docker.succeed("restart", "-t", "20", "c1")
    engine.await_output("c1", "/kept\nstarted")
    assert docker.state("c1", "Pid") != pid
    assert not os.path.exists(f"/proc/{pid}")
    assert docker.succeed("exec", "c1", "ls", "/kept") == "/kept"


def test_restart_after_failures(docker: Docker, engine: Engine) -> None:
    assert engine.run("-d", "--name", "c1", "--restart=on-failure:2", "box", "sh", "-c", "echo run; exit 4").code == 0
    docker.await_state("c1", "Status", "exited")
    assert docker.succeed("inspect", "-f", "{{.RestartCount}} {{.State.ExitCode}}", "c1") == "2 4"
    assert docker.succeed("logs", "c1").splitlines() == ["run"] * 3


def test_restart_of_what_was_killed(docker: Docker, engine: Engine) -> None:
    assert engine.run("-d", "--name", "c1", "--restart=always", "box", "sh", "-c", "echo run; exec sleep 1000").code == 0
    engine.await_output("c1", "run")
    os.kill(docker.state("c1", "Pid"), signal.SIGKILL)
    engine.await_output("c1", "run\nrun")
    assert docker.succeed("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "c1") == "1 running"
    docker.succeed("stop", "-t", "0", "c1")
    assert docker.state("c1", "Status") == "exited"


def test_stop_of_what_ignores_it(docker: Docker, engine: Engine) -> None:
    before = len(docker.events("c1"))
    assert engine.run("-d", "--name", "c1", "box", "sh", "-c", "trap '' TERM; echo started; while :; do sleep 0.1; done").code == 0
    engine.await_output("c1", "started")
    began = time.monotonic()
    docker.succeed("stop", "-t", "1", "c1")
    assert time.monotonic() - began >= 1
    assert docker.state("c1", "ExitCode") == 137
    assert docker.events("c1")[before:] == ["create", "start", "kill 15", "kill 9", "die 137", "stop"]
