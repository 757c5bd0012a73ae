"""Network devices of the host that become a container's: in the plan, and which addresses they keep."""

from __future__ import annotations

from typing import Any

import pytest
from test_plan import kinds, plan_of

from pyruntime.plan import operations as op
from pyruntime.plan.net_devices import Address, NetDeviceMove, kept_addresses, renamed, restored_addresses
from pyruntime.plan.operations import Plan

pytestmark = pytest.mark.conformance(33)

NAMESPACES = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
FOREVER = {"ifa_preferred": 2**32 - 1, "ifa_valid": 2**32 - 1, "cstamp": 5, "tstamp": 6}


def plan_with(devices: dict[str, Any], **linux: Any) -> Plan:
    return plan_of(linux={"netDevices": devices, **linux})


def test_which_devices() -> None:
    plan = plan_with({"eth0": {"name": "inner0"}, 'a"b': {}, "eth2": {"name": "e%d"}})
    assert plan.net_devices == (
        NetDeviceMove("eth0", "inner0", '$.linux.netDevices["eth0"]', '$.linux.netDevices["eth0"].name'),
        NetDeviceMove('a"b', 'a"b', '$.linux.netDevices["a\\"b"]', '$.linux.netDevices["a\\"b"]'),
        NetDeviceMove("eth2", "e%d", '$.linux.netDevices["eth2"]', '$.linux.netDevices["eth2"].name'))
    assert [device.is_template for device in plan.net_devices] == [False, False, True]
    assert 'move network device              eth0 to inner0  # $.linux.netDevices["eth0"]' in str(plan)


@pytest.mark.parametrize("changes", [
    {}, {"namespaces": [*NAMESPACES, {"type": "user"}], "uidMappings": MAPPING, "gidMappings": MAPPING},
    {"namespaces": [*NAMESPACES, {"type": "user", "path": "/ns/user"}]},
    {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/ns/net"}, {"type": "pid", "path": "/ns/pid"}]},
], ids=["new", "user", "joined-user", "joined"])
def test_the_host_is_waited_for_in_the_network_namespace(changes: dict[str, Any]) -> None:
    """Before anything that may be about the devices: sysctls, and hooks."""
    plan = plan_of(hostname=None, hooks={"createRuntime": [{"path": "/bin/true"}]},
                   linux={"netDevices": {"eth0": {}}, "sysctl": {"net.ipv4.conf.eth0.forwarding": "1"}, **changes})
    found = kinds(plan)
    at = found.index(op.AnnounceNetwork)
    assert found[at + 1] is op.AwaitRelease and found.count(op.AnnounceNetwork) == 1
    assert at < found.index(op.WriteProc) < found.index(op.AnnounceHooks)
    types = [operation.types if isinstance(operation, op.UnshareNamespaces) else operation.type
             for operation in plan.init[:at] if isinstance(operation, op.UnshareNamespaces | op.JoinNamespace)]
    assert any(type & 0x40000000 for type in [*types, plan.clone_flags])  # CLONE_NEWNET
    assert plan.awaits_hooks


def test_a_joined_namespace_is_not_the_hosts() -> None:
    linux = {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/ns/net"}]}
    for devices, differs in (({"eth0": {}}, 1), ({}, 0)):
        (opened,) = [o for o in plan_of(hostname=None, linux={**linux, "netDevices": devices}).host if isinstance(o, op.OpenNamespace)]
        assert opened.must_differ == differs


def test_without_devices_nobody_waits() -> None:
    plan = plan_of()
    assert plan.net_devices == () and {op.AnnounceNetwork, op.AwaitRelease}.isdisjoint(kinds(plan))
    assert plan_with({}) == plan


def address(text: str = "10.0.0.1", family: int = 2, scope: int = 0, flags: int = 0x80, **attributes: Any) -> Address:
    return Address(family, 24, scope, flags, {"IFA_ADDRESS": text, "IFA_CACHEINFO": FOREVER, **attributes})


def test_permanent_addresses_of_global_scope_are_kept() -> None:
    kept = [address(), address("fd00::1", 10), address("10.0.0.2", flags=0x81), address("fd00::9", 10, flags=0x88)]
    lost = [address(scope=254), address(scope=253), address(scope=200), address("fe80::1", 10, 253), address(flags=0),
            address("fd00::2", 10, flags=0x01)]
    assert kept_addresses([*kept, *lost]) == kept


def test_the_host_gets_all_addresses_again() -> None:
    """But for temporary ones, which the kernel makes of others."""
    every = [address(), address(scope=254), address("fe80::1", 10, 253), address(flags=0x01)]
    assert restored_addresses([*every, address("fd00::2", 10, flags=0x01)]) == every


def test_what_is_kept_of_an_address() -> None:
    old = address(IFA_LOCAL="10.0.0.1", IFA_BROADCAST="10.0.0.255", IFA_LABEL="eth0", IFA_RT_PRIORITY=7, IFA_PROTO=9, flags=0x2FF)
    new = renamed(old, "eth0", "inner0")
    assert new.attributes == {"IFA_ADDRESS": "10.0.0.1", "IFA_LOCAL": "10.0.0.1", "IFA_BROADCAST": "10.0.0.255", "IFA_RT_PRIORITY": 7,
                              "IFA_PROTO": 9, "IFA_FLAGS": 0x216}
    assert (new.family, new.prefix_length, new.scope, new.flags, str(new)) == (2, 24, 0, 0x216, "10.0.0.1/24")


@pytest.mark.parametrize(("label", "new_name", "expected"), [
    ("eth0:x", "inner0", "inner0:x"), ("eth0:x", "eth0", "eth0:x"), ("eth0", "inner0", None), ("other", "inner0", "other"),
    ("eth0:longest", "inner_network0", None),
])
def test_labels_begin_with_the_name(label: str, new_name: str, expected: str | None) -> None:
    assert renamed(address(IFA_LABEL=label), "eth0", new_name).attributes.get("IFA_LABEL") == expected


def test_lifetimes_go_on() -> None:
    life = {"ifa_preferred": 0, "ifa_valid": 2**32 - 1, "cstamp": 5, "tstamp": 6}
    assert renamed(address(IFA_CACHEINFO=life), "a", "b").attributes["IFA_CACHEINFO"] == {**life, "cstamp": 0, "tstamp": 0}
    assert "IFA_CACHEINFO" not in renamed(address(), "a", "b").attributes
