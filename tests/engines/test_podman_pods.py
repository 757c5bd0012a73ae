"""Pods of podman: what their containers share, and what is done with all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine import CGROUP_DRIVER, Engine, until
from podman import RUNTIMES, with_runtime

pytestmark = pytest.mark.privileged
# the first one of a pod, of the tests' image, since there is no registry
INFRA = ("--infra-image=localhost/box", "--infra-command=sleep 1000")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


@pytest.fixture
def make_pod(engine: Engine) -> Iterator[Callable[..., str]]:
    made = []

    def make(*options: str) -> str:
        made.append(engine.succeed("pod", "create", "--network=none", *INFRA, *options))
        return made[-1]

    yield make
    for pod in made:
        engine.succeed("pod", "rm", "-f", "-t", "0", pod)


def start(engine: Engine, pod: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> str:
    return engine.succeed("run", "-d", "--pod", pod, *options, "box", *command)


def namespaces(engine: Engine, container: str) -> dict[str, str]:
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in NAMESPACES)
    return dict(zip(NAMESPACES, engine.succeed("exec", container, "sh", "-c", script).split(), strict=True))


def test_what_is_shared(engine: Engine, make_pod: Callable[..., str]) -> None:
    """By default network, ipc and uts: the containers reach each other by the loopback device and by shared memory, and have one name."""
    pod = make_pod("--hostname=pod")
    server, client = start(engine, pod, command=("sh", "-c", "echo hello | busybox nc -l -p 5555; exec sleep 1000")), start(engine, pod)
    ours, theirs = namespaces(engine, server), namespaces(engine, client)
    shared = {name for name in NAMESPACES if ours[name] == theirs[name]}
    of_the_host = {name for name in NAMESPACES if ours[name] == os.readlink(f"/proc/self/ns/{name}")}
    assert shared - of_the_host == {"ipc", "net", "uts"} and not {"mnt", "pid"} & (shared | of_the_host)
    assert engine.succeed("exec", client, "hostname") == "pod"
    assert until(lambda: engine("exec", client, "busybox", "nc", "127.0.0.1", "5555").out, "the server listens") == "hello"
    engine.succeed("exec", server, "sh", "-c", "echo kept >/dev/shm/file; echo own >/own")
    assert engine.succeed("exec", client, "cat", "/dev/shm/file") == "kept"
    assert engine("exec", client, "cat", "/own").code == 1


def test_a_shared_pid_namespace(engine: Engine, make_pod: Callable[..., str]) -> None:
    """The infra container's process is the first one, and the containers' processes see and may kill each other."""
    pod = make_pod("--share=pid")
    first = start(engine, pod, command=("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done"))
    second = start(engine, pod, command=("sleep", "2000"))
    seen = engine.succeed("exec", second, "sh", "-c", "for p in /proc/[0-9]*; do echo $p $(tr '\\0' ' ' <$p/cmdline); done").splitlines()
    assert any(line.split()[:3] == ["/proc/1", "sleep", "1000"] for line in seen), seen
    (victim,) = [line.split()[0].removeprefix("/proc/") for line in seen if "trap" in line]
    assert namespaces(engine, first)["pid"] == namespaces(engine, second)["pid"]
    assert namespaces(engine, first)["net"] != namespaces(engine, second)["net"]
    engine.succeed("exec", second, "kill", victim)
    assert engine.succeed("wait", first) == "9"


def test_all_of_a_pod(engine: Engine, make_pod: Callable[..., str]) -> None:
    """Paused, stopped, started and killed together, in one cgroup that limits them."""
    pod = make_pod("--memory=100m", "--name=together")
    containers = [start(engine, pod), start(engine, pod)]

    def states() -> set[str]:
        return {engine.succeed("inspect", "-f", "{{.State.Status}}", container) for container in containers}

    def pid(container: str) -> str:
        return engine.succeed("inspect", "-f", "{{.State.Pid}}", container)

    def cgroup(container: str) -> Path:
        return Path(Path(f"/proc/{pid(container)}/cgroup").read_text().splitlines()[-1].partition("::")[2])

    parents = {cgroup(container).as_posix().removesuffix("/container").rpartition("/")[0] for container in containers}
    assert len(parents) == 1 and (CGROUP_DRIVER == "cgroupfs" or parents.pop().endswith(f"libpod_pod_{pod}.slice"))
    engine.succeed("pod", "pause", pod)
    assert states() == {"paused"}
    engine.succeed("pod", "unpause", pod)
    assert states() == {"running"}
    before = {pid(container) for container in containers}
    engine.succeed("pod", "stop", "-t", "0", pod)
    assert states() == {"exited"}
    engine.succeed("pod", "start", pod)
    assert states() == {"running"} and before.isdisjoint(pid(container) for container in containers)
    assert {namespaces(engine, container)["net"] for container in containers} == {namespaces(engine, containers[0])["net"]}
    engine.succeed("pod", "kill", pod)
    until(lambda: states() == {"exited"}, "all are killed")
    assert engine.succeed("pod", "inspect", "-f", "{{.NumContainers}}", pod) == "3"
