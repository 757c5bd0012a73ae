"""Containers of Docker that talk with one another and with the host, with this runtime and with runc."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from collections.abc import Iterator

import pytest
from docker_daemon import Docker, running
from engine import COMMAND_TIMEOUT_S, PYRUNTIME, Engine

pytestmark = pytest.mark.privileged
SERVER = ["sh", "-c", "echo hello from $(hostname) >/tmp/index.html; exec busybox httpd -f -p 8080 -h /tmp"]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """With a network of its own: the only one that the tests' containers are in."""
    with running("--add-runtime", f"pyruntime={PYRUNTIME}") as docker:
        docker.succeed("network", "create", "--subnet", "198.51.100.0/24", "between")
        yield docker
        docker.succeed("network", "rm", "between")


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Docker) -> Engine:
    return Engine(docker.command, {}, ["--runtime", request.param])


@pytest.fixture
def server(docker: Docker, engine: Engine) -> Iterator[str]:
    """A container of that name in the network, a port of which is the host's too; its address."""
    ended = engine.run("-d", "--network=between", "--name=server", "--network-alias=web", "-p", "127.0.0.1::8080", "box", *SERVER)
    assert ended.code == 0, ended
    yield docker.succeed("inspect", "-f", "{{.NetworkSettings.Networks.between.IPAddress}}", "server")
    docker.succeed("rm", "-f", "server")


def test_a_name_that_is_a_container(engine: Engine, server: str) -> None:
    """Docker answers for names inside of each container's network namespace."""
    assert server.startswith("198.51.100.")
    script = "for name in server web $0; do busybox wget -q -O - http://$name:8080/ || exit; done; cat /etc/resolv.conf"
    ended = engine.run("--rm", "--network=between", "box", "sh", "-c", script, server)
    assert ended.code == 0, ended
    hostname = engine.succeed("exec", "server", "hostname")
    assert ended.out.splitlines()[:3] == [f"hello from {hostname}"] * 3 and "nameserver 127.0.0.11" in ended.out, ended


def test_published_port(docker: Docker, server: str) -> None:
    address = docker.succeed("port", "server", "8080/tcp")
    assert address.startswith("127.0.0.1:")
    hostname = docker.succeed("exec", "server", "hostname")
    with urllib.request.urlopen(f"http://{address}/", timeout=COMMAND_TIMEOUT_S) as answer:
        assert answer.read().decode() == f"hello from {hostname}\n"
    docker.succeed("stop", "-t", "0", "server")
    host, port = address.split(":")
    with socket.socket() as client:
        assert client.connect_ex((host, int(port))) != 0
    docker.succeed("start", "server")  # another port, and another namespace
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{docker.succeed('port', 'server', '8080/tcp')}/", timeout=COMMAND_TIMEOUT_S) as answer:
                assert answer.status == 200
                break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_network_that_is_joined_later(docker: Docker, engine: Engine, server: str) -> None:
    """By a container that runs: an interface comes and goes."""
    assert engine.run("-d", "--network=none", "--name=late", "box", "sleep", "1000").code == 0
    try:
        docker.succeed("network", "disconnect", "none", "late")
        docker.succeed("network", "connect", "between", "late")
        assert docker.succeed("exec", "late", "busybox", "wget", "-q", "-O", "-", "http://server:8080/").startswith("hello from")
        docker.succeed("network", "disconnect", "between", "late")
        assert docker("exec", "late", "busybox", "wget", "-q", "-O", "-", f"http://{server}:8080/").code == 1
    finally:
        docker.succeed("rm", "-f", "late")


def test_another_containers_network_and_the_hosts(docker: Docker, engine: Engine, server: str) -> None:
    ended = engine.run("--rm", "--network=container:server", "box", "sh", "-c", "busybox ip -o address; busybox wget -q -O - http://127.0.0.1:8080/")
    assert ended.code == 0 and f"{server}/24" in ended.out and "hello from" in ended.out, ended
    ended = engine.run("--rm", "--network=host", "box", "readlink", "/proc/self/ns/net")
    assert ended.out == os.readlink("/proc/self/ns/net"), ended
