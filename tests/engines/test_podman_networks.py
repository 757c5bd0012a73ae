"""Networks of podman's, made by netavark, in a network namespace that stands for the host's: its bridges and rules stay there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from engine import Engine, require, until
from podman import RUNTIMES, remove, with_runtime

pytestmark = pytest.mark.privileged
HOST = "pyruntime-podman"
NETWORK = "published"
SERVER = "while :; do echo hello from $(hostname) | busybox nc -l -p 8080; done"


@pytest.fixture(scope="module")
def host(podman: Engine) -> Iterator[Engine]:
    """A client in that namespace, which has a network."""
    require("ip", "nsenter", "iptables")
    subprocess.run(["ip", "netns", "add", HOST], check=True)
    try:
        subprocess.run(["ip", "-n", HOST, "link", "set", "lo", "up"], check=True)
        engine = Engine(["nsenter", f"--net=/run/netns/{HOST}", *podman.command], podman.environment, [])
        engine.succeed("network", "create", "--disable-dns", "--subnet=198.51.100.0/24", NETWORK)
        yield engine
        engine.succeed("network", "rm", NETWORK)
    finally:
        subprocess.run(["ip", "netns", "del", HOST], check=True)


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, host: Engine) -> Engine:
    return Engine(with_runtime(host, request.param).command, host.environment, [f"--network={NETWORK}"])


def fetch(address: str, port: int) -> str:
    """What a server says to who connects from the host."""
    return subprocess.run(["nsenter", f"--net=/run/netns/{HOST}", "busybox", "nc", "-w", "5", address, str(port)], capture_output=True,
                          text=True, check=False, stdin=subprocess.DEVNULL).stdout.strip()


def test_published_ports(engine: Engine) -> None:
    """Reached at the host's port, by the host's loopback device and by its address; and by another container at the container's own."""
    id = engine.succeed("run", "-d", *engine.run_options, "--hostname=server", "-p", "18080:8080", "-p", "127.0.0.1:18081:8080/tcp",
                        "box", "sh", "-c", SERVER)
    try:
        address = engine.succeed("inspect", "-f", f"{{{{.NetworkSettings.Networks.{NETWORK}.IPAddress}}}}", id)
        assert address.startswith("198.51.100.")
        for at, port in (("127.0.0.1", 18080), ("127.0.0.1", 18081), ("198.51.100.1", 18080), (address, 8080)):
            assert until(lambda at=at, port=port: fetch(at, port), f"{at}:{port} answers") == "hello from server"  # type: ignore[misc]
        assert sorted(engine.succeed("port", id).splitlines()) == ["8080/tcp -> 0.0.0.0:18080", "8080/tcp -> 127.0.0.1:18081"]
        # between two connections nobody listens
        ended = engine.run("--rm", "box", "sh", "-c", f"until busybox nc -w 5 {address} 8080 </dev/null; do sleep 0.1; done; "
                           "busybox ip -o -4 address show eth0; busybox ip route | grep default")
        said, device, route = ended.out.splitlines()
        assert said == "hello from server" and "198.51.100." in device and "via 198.51.100.1" in route, ended
        shown = engine.succeed("run", "--rm", f"--network=container:{id}", "box", "busybox", "ip", "-o", "-4", "address", "show", "eth0")
        assert f"{address}/24" in shown
    finally:
        remove(engine, id)
    assert fetch("127.0.0.1", 18080) == ""


def test_the_hosts_network(engine: Engine) -> None:
    namespace = engine.succeed("run", "--rm", "--network=host", "box", "readlink", "/proc/self/ns/net")
    ours = subprocess.run(["nsenter", f"--net=/run/netns/{HOST}", "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
    assert namespace == ours.stdout.strip()
