"""Network namespaces: new ones, and those of others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, capabilities, namespaces
from net_lab import devices, ip

pytestmark = pytest.mark.privileged

OTHERS = tuple(name for name in NAMESPACES if name != "network")
SHOW = "busybox ip -o link show lo; readlink /proc/self/ns/net"


@pytest.fixture
def prepared() -> Iterator[int]:
    """The pid of a process in a network namespace that somebody has made, with a device and the loopback device down."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; exec sleep 1000"], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == b"made\n"
            ip("link", "add", "made0", "type", "veth", "peer", "name", "made1", pid=holder.pid)
            yield holder.pid
        finally:
            holder.kill()


@pytest.mark.conformance(27)
@pytest.mark.parametrize("changes", [{}, {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}], ids=["root", "user"])
def test_a_new_one_has_a_loopback_device_that_is_up(reachable: Lab, changes: dict[str, Any]) -> None:
    """As with runc and crun."""
    out = reachable.run("busybox ip -o addr show lo; busybox ping -c 1 -W 5 127.0.0.1", linux=changes,
                        process=capabilities("CAP_NET_RAW"))
    assert "127.0.0.1/8" in out and "::1/128" in out and " 0% packet loss" in out, out


@pytest.mark.conformance(28)
def test_one_that_is_joined_is_as_it_was(lab: Lab, prepared: int) -> None:
    """Nothing in it is changed, not even the loopback device; it is the container's as long as that lasts."""
    before = devices(prepared)
    assert "UP" not in before["lo"]["flags"]
    linux = {"namespaces": namespaces(*OTHERS, network=f"/proc/{prepared}/ns/net")}
    pid = lab.sleeper(linux=linux)
    assert devices(prepared) == before == devices(pid)
    shown = lab.exec(SHOW)
    assert "<LOOPBACK>" in shown and shown.splitlines()[-1] == namespace_of(prepared)
    lab.runtime.delete_container("p1", force=True)
    assert devices(prepared) == before


@pytest.mark.conformance(28)
def test_one_that_is_joined_outlives_who_made_it(lab: Lab, prepared: int) -> None:
    name = namespace_of(prepared)
    lab.sleeper(linux={"namespaces": namespaces(*OTHERS, network=f"/proc/{prepared}/ns/net")})
    # a second container with the namespace of the first
    pid = lab.sleeper("p2", linux={"namespaces": namespaces(*OTHERS, network=f"/proc/{lab.runtime.get_container_state('p1').pid}/ns/net")})
    lab.runtime.delete_container("p1", force=True)
    assert namespace_of(pid) == name and lab.exec(SHOW, "p2").splitlines()[-1] == name
    lab.runtime.delete_container("p2", force=True)


def namespace_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")
