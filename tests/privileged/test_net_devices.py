"""Network devices of the host that become a container's, and come back if it is not made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faults import Fault
from hook_lab import shell
from lab import MAPS, NAMESPACES, Lab, capabilities, namespaces, with_mounts
from net_lab import addresses, devices, ip, kept_state, pair, wait_until

from pyruntime import StdioOptions
from pyruntime.errors import HookFailedError, InvalidBundleError, SetupError
from pyruntime.native import process as native
from pyruntime.network import devices as network_devices
from pyruntime.network.netlink import Link, Netlink
from pyruntime.testing.bundles import default_config

pytestmark = [pytest.mark.privileged, pytest.mark.conformance(33)]

OLD, PEER = "pyrt0", "pyrt0p"
PATH = f'$.linux.netDevices["{OLD}"]'


def moving(**names: str | None) -> dict[str, Any]:
    """The member `linux` with a network namespace and devices to move, each with its name in the container."""
    return {"netDevices": {name: {} if new is None else {"name": new} for name, new in names.items()}}


def joining(pid: int, **names: str | None) -> dict[str, Any]:
    """The same with the network namespace of a process."""
    return {"namespaces": namespaces("mount", "pid", network=f"/proc/{pid}/ns/net"), **moving(**names)}


@pytest.fixture
def device() -> Iterator[str]:
    """One that is up, with addresses of several kinds and a route."""
    with pair(OLD, PEER):
        ip("link", "set", PEER, "up")
        ip("link", "set", OLD, "mtu", "1400")
        for address in (["198.51.100.1/24"], ["198.51.100.2/24", "label", f"{OLD}:x"], ["198.51.100.3/32", "scope", "host"],
                        ["203.0.113.1/24", "valid_lft", "1000", "preferred_lft", "500"], ["192.0.2.65", "peer", "192.0.2.66"],
                        ["2001:db8::1/64", "nodad"], ["fe80::99/64", "nodad"],
                        ["2001:db8:1::1/64", "nodad", "valid_lft", "1000", "preferred_lft", "1000"]):
            ip("address", "add", *address, "dev", OLD)
        ip("link", "set", OLD, "up")
        # the kernel's own link-local address comes with the carrier
        wait_until(lambda: len(addresses(devices()[OLD], "link")) == 2)
        ip("route", "add", "198.18.0.0/15", "via", "198.51.100.254", "dev", OLD, "metric", "77")
        ip("-6", "route", "add", "2001:db8:77::/48", "via", "2001:db8::ff", "dev", OLD, "metric", "78")
        yield OLD


def test_a_device_is_moved_with_its_permanent_global_addresses(lab: Lab, device: str) -> None:
    before = devices()[device]
    pid = lab.sleeper(linux=moving(pyrt0="inner0"))
    found = devices(pid)
    assert set(found) == {"lo", "inner0"} and device not in devices()
    moved = found["inner0"]
    assert "UP" in moved["flags"] and (moved["mtu"], moved["address"]) == (1400, before["address"])
    assert addresses(moved, "global", "site", "host") == ["192.0.2.65/32", "198.51.100.1/24", "198.51.100.2/24 inner0:x", "2001:db8::1/64"]
    (point_to_point,) = [address for address in moved["addr_info"] if address["local"] == "192.0.2.65"]
    assert point_to_point["address"] == "192.0.2.66"
    assert all(address["valid_life_time"] == 2**32 - 1 for address in moved["addr_info"])
    assert "fe80::99/64" not in addresses(moved)
    assert "UP" in found["lo"]["flags"]
    lab.runtime.delete_container("p1", force=True)


def test_devices_of_two_containers_are_connected(lab: Lab) -> None:
    with pair(OLD, PEER):
        for name, number in ((OLD, 1), (PEER, 2)):
            ip("address", "add", f"198.51.100.{number}/24", "dev", name)
            ip("address", "add", f"2001:db8::{number}/64", "dev", name, "nodad")
        lab.sleeper("p2", linux=moving(pyrt0="eth0"))
        out = lab.run("busybox ping -c 1 -W 5 198.51.100.1 2>&1; busybox ping -6 -c 1 -W 5 2001:db8::1 2>&1", linux=moving(pyrt0p="eth0"),
                      process=capabilities("CAP_NET_RAW"))
        assert out.count(" 0% packet loss") == 2, out
        lab.runtime.delete_container("p2", force=True)


def test_a_virtual_device_ends_with_the_container(lab: Lab, device: str) -> None:
    """As the kernel has it: it would move a physical one to the first network namespace."""
    lab.sleeper(linux=moving(pyrt0=None))
    lab.runtime.delete_container("p1", force=True)
    # the kernel removes a namespace in the background
    wait_until(lambda: PEER not in devices())
    assert OLD not in devices()


def test_the_kernel_makes_a_name_of_a_template(lab: Lab) -> None:
    first = lab.sleeper("p2", linux=moving())
    ip("link", "add", "net0", "type", "veth", "peer", "name", "net2", pid=first)
    with pair(OLD, PEER), pair("net2", "net2p"):
        ip("address", "add", "198.51.100.1/24", "dev", OLD)
        ip("address", "add", "198.51.100.2/24", "dev", "net2")
        lab.sleeper(linux=joining(first, pyrt0="net%d", net2="net%d"), hostname=None)
        found = devices(first)
        made = {name: addresses(device, "global") for name, device in found.items() if name not in ("lo", "net0", "net2")}
        assert sorted(made.values()) == [["198.51.100.1/24"], ["198.51.100.2/24"]]
        assert all(name.removeprefix("net").isdecimal() for name in made)
        lab.runtime.delete_container("p1", force=True)
        # a namespace that was joined is not the container's: what is in it stays
        assert made.keys() <= devices(first).keys()
        lab.runtime.delete_container("p2", force=True)


def test_a_device_in_a_user_namespace(reachable: Lab, device: str) -> None:
    pid = reachable.sleeper(linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS, **moving(pyrt0="inner0")})
    assert addresses(devices(pid)["inner0"], "global") == ["192.0.2.65/32", "198.51.100.1/24", "198.51.100.2/24 inner0:x", "2001:db8::1/64"]
    reachable.runtime.delete_container("p1", force=True)


def test_a_device_in_a_namespace_that_another_process_enters(lab: Lab, device: str) -> None:
    """With a pid namespace that is joined, the init is followed by another process after it has announced its network."""
    first = lab.sleeper("p2")
    pid = lab.sleeper(linux={"namespaces": namespaces("mount", "network", pid=f"/proc/{first}/ns/pid"), **moving(pyrt0=None)}, hostname=None)
    assert "UP" in devices(pid)[device]["flags"]
    for id in ("p1", "p2"):
        lab.runtime.delete_container(id, force=True)


def test_a_device_in_a_user_namespace_that_is_joined(reachable: Lab, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the init is followed by another process before it announces its network, and hooks run after that."""
    monkeypatch.setattr(native, "SETUP_TIMEOUT_S", 10000)  # nothing is waited for that has happened
    first = reachable.sleeper("p2", linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    hook = reachable.directory / "hook"
    joined = namespaces("mount", "network", "pid", user=f"/proc/{first}/ns/user")
    pid = reachable.sleeper(linux={"namespaces": joined, **moving(pyrt0="inner0")}, hostname=None,
                            hooks={"createRuntime": [shell(f": > {hook}")]},
                            mounts=[mount for mount in default_config()["mounts"] if mount["type"] != "mqueue"])
    assert "UP" in devices(pid)["inner0"]["flags"] and hook.exists()
    for id in ("p1", "p2"):
        reachable.runtime.delete_container(id, force=True)


def test_hooks_and_sysctls_find_it(lab: Lab, device: str) -> None:
    seen = lab.directory / "seen"
    hook = shell(f"pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip -o link show dev inner0 > {seen}",
                 env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    linux = {**moving(pyrt0="inner0"), "sysctl": {"net.ipv4.conf.inner0.forwarding": "1"}}
    out = lab.run("cat /proc/sys/net/ipv4/conf/inner0/forwarding", hooks={"createRuntime": [hook]}, linux=linux)
    assert out == "1\n" and "inner0" in seen.read_text()


# what fails, and with what; nothing of the host's is different then
def test_a_device_that_does_not_exist(lab: Lab, device: str) -> None:
    before = kept_state(device)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=moving(pyrt0=None, pyrt9="eth0"))
    error = raised.value
    assert (error.step, error.path, error.errno_name) == ("find network device", "pyrt9", "ENODEV")
    assert error.json_path == '$.linux.netDevices["pyrt9"]'
    assert kept_state(device) == before and not lab.runtime.container_exists("p1")


def test_a_device_by_its_alternative_name(lab: Lab, device: str) -> None:
    """Which of its names would be the one in the container?"""
    ip("link", "property", "add", "dev", device, "altname", "pyrt_other")
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=moving(pyrt_other=None))
    assert (raised.value.step, raised.value.errno_name) == ("find network device", "ENODEV")


@pytest.mark.parametrize("new", ["taken", "lo"])
def test_a_name_that_is_taken(lab: Lab, device: str, new: str) -> None:
    first = lab.sleeper("p2")
    ip("link", "add", "taken", "type", "veth", "peer", "name", "other", pid=first)
    inside, before = devices(first), kept_state(device)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=joining(first, pyrt0=new), hostname=None)
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == ("move network device", device, "EEXIST", f"{PATH}.name")
    assert kept_state(device) == before and devices(first) == inside
    lab.runtime.delete_container("p2", force=True)


def test_a_name_that_is_taken_meanwhile(lab: Lab, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel moves it first and fails then."""
    first = lab.sleeper("p2")
    ip("link", "add", "taken", "type", "veth", "peer", "name", "other", pid=first)
    inside, before = devices(first), kept_state(device)
    monkeypatch.setattr(network_devices, "_list", lambda container: [Link(link.index, "", False, 0) for link in container.links()])
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=joining(first, pyrt0="taken"), hostname=None)
    assert (raised.value.errno_name, raised.value.json_path) == ("EEXIST", f"{PATH}.name")
    assert kept_state(device) == before and devices(first).keys() == inside.keys()
    lab.runtime.delete_container("p2", force=True)


def test_an_index_that_is_taken_meanwhile(lab: Lab, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is chosen; and if that does not help, nothing is moved."""
    first = lab.sleeper("p2")
    linux = joining(first, pyrt0="inner0")
    index = devices()[device]["ifindex"]
    ip("link", "add", "taken", "index", str(index), "type", "veth", "peer", "name", "other", pid=first)
    before, lists = kept_state(device), 0

    def list_late(container: Netlink) -> list[Link]:
        nonlocal lists
        lists += 1
        return [link for link in container.links() if lists > late or link.index != index]

    monkeypatch.setattr(network_devices, "_list", list_late)
    late = 100
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=linux, hostname=None)
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("move network device", "EBUSY", PATH)
    assert kept_state(device) == before
    lists, late = 0, 3
    lab.create("true", linux=linux, hostname=None)
    assert devices(first)["inner0"]["ifindex"] not in (index, devices(first)["taken"]["ifindex"])
    for id in ("p1", "p2"):
        lab.runtime.delete_container(id, force=True)


def test_a_device_that_cannot_be_moved(lab: Lab, device: str) -> None:
    """The one before it comes back."""
    before = kept_state(device)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=moving(pyrt0="inner0", lo="lo2"))
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == ("move network device", "lo", "EINVAL", '$.linux.netDevices["lo"]')
    assert kept_state(device) == before


FAILURES: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "mount": ({"mounts": with_mounts({"destination": "/x", "type": "nonefs"})}, SetupError),
    "hook": ({"hooks": {"createRuntime": [shell("exit 1")]}}, HookFailedError),
    "joined-pid": ({"linux": {"namespaces": namespaces("mount", "network", pid="/proc/1/ns/pid")}, "hostname": None,
                    "mounts": [{"destination": "/x", "type": "nonefs"}]}, SetupError),
    "sysctl": ({"linux": {"sysctl": {"net.ipv4.conf.none.forwarding": "1"}}}, SetupError),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_afterwards_brings_devices_back(lab: Lab, device: str, name: str) -> None:
    """With their former names, numbers, addresses, state and routes."""
    changes, expected = FAILURES[name]
    with pair("pyrt1", "pyrt1p"), pair("pyrtm", "pyrtmp"):
        ip("link", "add", "pyrtbr", "type", "bridge")
        try:
            ip("link", "set", "pyrt1", "master", "pyrtbr")
            before = [kept_state(one) for one in (device, "pyrt1", "pyrtm")]
            linux = {**changes.get("linux", {}), **moving(pyrt0="inner0", pyrt1="inner%d", pyrtm=None)}
            with pytest.raises(expected):
                lab.create("true", **{**changes, "linux": linux})
            assert [kept_state(one) for one in (device, "pyrt1", "pyrtm")] == before
        finally:
            ip("link", "delete", "pyrtbr")
    assert not lab.runtime.container_exists("p1")


def test_a_program_that_is_missing_brings_it_back(lab: Lab, device: str) -> None:
    before = kept_state(device)
    with pytest.raises(SetupError, match="execute program"):
        lab.runtime.create_container("p1", lab.bundle(["/none"], linux=moving(pyrt0="inner0")), StdioOptions(), finds_program=True)
    assert kept_state(device) == before


@pytest.mark.parametrize("is_moved", [False, True])
def test_an_interrupt_brings_it_back(lab: Lab, device: str, is_moved: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
                                     ) -> None:
    before = kept_state(device)
    move = Netlink.move

    def move_and_interrupt(netlink: Netlink, *arguments: Any) -> None:
        monkeypatch.undo()
        if is_moved:
            move(netlink, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Netlink, "move", move_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        lab.create("true", linux=moving(pyrt0="inner0"))
    assert kept_state(device) == before and "network device" not in caplog.text


def test_the_name_on_the_host_is_taken_meanwhile(lab: Lab, device: str, caplog: pytest.LogCaptureFixture) -> None:
    """It comes back under the name that the kernel would give it."""
    hook = shell(f"ip link add {device} type veth peer name pyrt8p; exit 1", env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    index = devices()[device]["ifindex"]
    try:
        with pytest.raises(HookFailedError):
            lab.create("true", linux=moving(pyrt0="inner0"), hooks={"createRuntime": [hook]})
        (back,) = [found for found in devices().values() if found["ifindex"] == index]
        assert back["ifname"].startswith("dev") and "198.51.100.1/24" in addresses(back)
        assert f"network device {device}: its name was taken" in caplog.text
    finally:
        ip("link", "delete", "pyrt8p")


def test_the_index_on_the_host_is_taken_meanwhile(lab: Lab, device: str, caplog: pytest.LogCaptureFixture) -> None:
    """It comes back with another one; its routes are of the old one."""
    index = devices()[device]["ifindex"]
    hook = shell(f"ip link add pyrt8 index {index} type veth peer name pyrt8p; exit 1", env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    try:
        with pytest.raises(HookFailedError):
            lab.create("true", linux=moving(pyrt0="inner0"), hooks={"createRuntime": [hook]})
        back = devices()[device]
        assert back["ifindex"] != index and "UP" in back["flags"] and "198.51.100.1/24" in addresses(back)
        assert kept_state("pyrt8")["routes"] == []
        assert f"network device {device} has lost its routes" in caplog.text
    finally:
        ip("link", "delete", "pyrt8p")


def test_no_socket_is_left_for_it(lab: Lab, device: str) -> None:
    """What fails has a JSON path, whatever it is."""
    before = kept_state(device)
    fault = Fault("setns", "EPERM", {1: 0x40000000})  # CLONE_NEWNET
    with pytest.raises(SetupError) as raised:
        fault.during(lambda: lab.create("true", linux=moving(pyrt0="inner0")))
    error = raised.value
    assert (error.step, error.errno_name, error.json_path) == ("move network devices", "EPERM", "$.linux.netDevices")
    assert kept_state(device) == before


def test_the_hosts_own_namespace(lab: Lab, device: str) -> None:
    before = kept_state(device)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"namespaces": namespaces("mount", network="/proc/self/ns/net"), **moving(pyrt0=None)}, hostname=None)
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("open namespace", "EPERM", "$.linux.namespaces[1].path")
    with pytest.raises(InvalidBundleError) as refused:
        lab.create("true", linux={"namespaces": namespaces("mount"), **moving(pyrt0=None)}, hostname=None)
    assert refused.value.json_path == "$.linux.netDevices"
    assert kept_state(device) == before


def test_the_callers_threads_stay_where_they_are(lab: Lab, device: str) -> None:
    before = {task: os.readlink(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")}
    descriptors, threads = sorted(os.listdir("/proc/self/fd")), threading.enumerate()
    lab.create("true", linux=moving(pyrt0="inner0"))
    lab.runtime.delete_container("p1", force=True)
    assert {task: os.readlink(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")} == before
    assert threading.enumerate() == threads and sorted(os.listdir("/proc/self/fd")) == descriptors


def test_pyroute2_is_imported_by_those_who_need_it(lab: Lab, device: str) -> None:
    script = ("import sys\nfrom pyruntime import NativeRuntime, StdioOptions\nrt = NativeRuntime(sys.argv[1])\n"
              "for bundle in sys.argv[2:]:\n    rt.create_container('p1', bundle, StdioOptions())\n    rt.delete_container('p1', force=True)\n"
              "    print('pyroute2' in sys.modules)")
    bundles = [lab.bundle("true"), lab.bundle("true", linux=moving(pyrt0=None))]
    shown = subprocess.run([sys.executable, "-c", script, str(lab.root), *bundles], capture_output=True, text=True, check=True).stdout
    assert shown == "False\nTrue\n"
