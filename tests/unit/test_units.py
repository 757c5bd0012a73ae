"""Systemd units: names and cgroups of them, and what is said of a container to systemd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyruntime.cgroups.paths import USER_SLICE, Unit, slice_path, unit_of
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host, Unprivileged, parse_drivers
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, compile, unit_for
from pyruntime.plan.device_rules import DEFAULT_RULES, Rule, device_rules
from pyruntime.plan.operations import Plan
from pyruntime.plan.unit_properties import (
    INFINITY,
    bit_mask,
    device_properties,
    resource_properties,
    unit_properties,
    with_room_for_init,
    without_room_for_init,
)
from pyruntime.spec import decode_resources, load_spec
from pyruntime.state import Store
from pyruntime.testing.bundles import default_config, merge

V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
HYBRID = Host((6, 1), (Hierarchy("/cg/memory", False, ("memory",)), Hierarchy("/cg/unified", True)), 0)


def plan_of(host: Host, units: str | None, cgroups_path: str | None) -> Plan:
    config = default_config()
    merge(config, {"linux": {"cgroupsPath": cgroups_path}})
    return compile(load_spec(json.dumps(config).encode()), host, Place("c", "/b", "/b/rootfs", "/run/c", units))


def of_kind(plan: Plan, kind: type[Any]) -> list[Any]:
    return [operation for operation in (*plan.host, *plan.child) if type(operation) is kind]


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("name", "path"), [
    ("-.slice", ""), ("a.slice", "/a.slice"), ("a-b.slice", "/a.slice/a-b.slice"), ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
])
def test_where_a_slice_is(name: str, path: str) -> None:
    assert slice_path(name) == path


@pytest.mark.conformance(34)
def test_a_users_units_are_in_another_slice() -> None:
    assert unit_of(None, "c", USER_SLICE).parent == unit_of(":x:c", "c", USER_SLICE).parent == "user.slice"
    assert unit_of("app.slice:x:c", "c", USER_SLICE).parent == "app.slice"
    host = msgspec.structs.replace(V2, caller=Unprivileged(1000, 1000))
    config = default_config()
    config["linux"]["cgroupsPath"] = ":x:c"
    spec = load_spec(json.dumps(config).encode())
    assert [unit_for(spec, "c", each).path for each in (V2, host)] == ["/system.slice/x-c.scope", "/user.slice/x-c.scope"]


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("cgroups_path", "unit"), [
    (None, Unit("pyruntime-c.scope", "system.slice")), ("machine.slice:libpod:c", Unit("libpod-c.scope", "machine.slice")),
    (":x:c", Unit("x-c.scope", "system.slice")), ("a.slice::c", Unit("c.scope", "a.slice")), ("a.slice:x:b.slice", Unit("b.slice", "a.slice")),
])
def test_what_a_path_means(cgroups_path: str | None, unit: Unit) -> None:
    assert unit_of(cgroups_path, "c") == unit


def test_an_id_is_escaped() -> None:
    assert unit_of(None, "a+b").name == r"pyruntime-a\x2bb.scope"


@pytest.mark.parametrize(("units", "path"), [("", "/system.slice/pyruntime-c.scope"), ("/outer", "/outer/system.slice/pyruntime-c.scope")])
def test_the_plan_uses_what_systemd_made(units: str, path: str) -> None:
    """A process is in the cgroup already, and it is never below the default parent."""
    (made,) = of_kind(plan_of(V2, units, None), op.MakeCgroup)
    assert (made.path, made.may_be_populated) == (f"/cg{path}".encode(), 1)
    made = of_kind(plan_of(HYBRID, units, None), op.MakeCgroup)
    assert {(operation.path, operation.may_be_populated) for operation in made} == {
        (f"/cg/memory{path}".encode(), 1), (f"/cg/unified{path}".encode(), 1)}


def test_without_the_driver() -> None:
    (made,) = of_kind(plan_of(V2, None, "/a:b:c"), op.MakeCgroup)
    assert (made.path, made.may_be_populated) == (b"/cg/a:b:c", 0)
    with pytest.raises(InvalidBundleError, match="is of the systemd cgroup driver, which this runtime was not told to use") as caught:
        plan_of(V2, None, "system.slice:x:c")
    assert caught.value.json_path == "$.linux.cgroupsPath"


def test_a_slice_has_no_processes_of_its_own_nor_delegation() -> None:
    scope = dict(unit_properties(Unit("x-c.scope", "a.slice"), "c", (7,)))
    assert scope["PIDs"] == ("au", [7]) and scope["Slice"] == ("s", "a.slice") and scope["Delegate"] == ("b", True)
    assert scope["Description"] == ("s", "pyruntime container c") and scope["DefaultDependencies"] == ("b", False)
    assert not {"PIDs", "Slice", "Delegate"} & dict(unit_properties(Unit("x-c.slice", "x.slice"), "c", ())).keys()


@pytest.mark.parametrize(("resources", "properties"), [
    ({}, {}),
    ({"memory": {"limit": 4096, "swap": 8192, "reservation": 2048}}, {"MemoryMax": 4096, "MemorySwapMax": 4096, "MemoryLow": 2048}),
    ({"memory": {"limit": -1, "swap": -1, "reservation": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY, "MemoryLow": INFINITY}),
    ({"memory": {"limit": 0, "swap": 0}}, {}),
    ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}), ({"cpu": {"idle": 1}}, {"CPUWeight": 0}), ({"cpu": {"idle": 0}}, {}),
    ({"cpu": {"quota": 50000, "period": 100000}}, {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": 500000}),
    ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000}),
    ({"cpu": {"quota": 33333}}, {"CPUQuotaPerSecUSec": 340000}),  # systemd keeps whole percents: never less than was asked for
    ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": INFINITY}),
    ({"cpu": {"period": 50000}}, {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": INFINITY}),
    ({"cpu": {"cpus": "0-3,9", "mems": "0"}}, {"AllowedCPUs": b"\x0f\x02", "AllowedMemoryNodes": b"\x01"}),
    ({"pids": {"limit": 7}}, {"TasksMax": 7}), ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}), ({"pids": {"limit": 0}}, {"TasksMax": 1}),
    ({"unified": {"memory.high": "max", "memory.min": "1", "pids.max": "3", "cpu.weight": "50", "cpu.max": "10000 20000"}},
     {"MemoryHigh": INFINITY, "MemoryMin": 1, "TasksMax": 3, "CPUWeight": 50, "CPUQuotaPeriodUSec": 20000, "CPUQuotaPerSecUSec": 500000}),
    ({"unified": {"cpu.max": "max", "cpuset.cpus": "1", "cpu.idle": "1"}},
     {"CPUQuotaPerSecUSec": INFINITY, "AllowedCPUs": b"\x02", "CPUWeight": 0}),
    # what is not well formed is the kernel's to refuse
    ({"unified": {"memory.high": "much", "cpu.max": "1 2 3", "cpuset.cpus": "a", "io.max": "8:0 rbps=1", "memory.oom.group": "1"}}, {}),
])
def test_limits_as_properties(resources: dict[str, Any], properties: dict[str, Any]) -> None:
    assert {name: value for name, (_, value) in resource_properties(decode_resources(resources), True)} == properties


@pytest.mark.conformance(44)
@pytest.mark.parametrize(("resources", "first", "late"), [
    ({"pids": {"limit": 0}}, [2], [1]), ({"pids": {"limit": 1}}, [2], [1]), ({"pids": {"limit": 2}}, [2], []),
    ({"pids": {"limit": 9}}, [9], []),
    ({"unified": {"pids.max": "1"}}, [2], [1]), ({"pids": {"limit": -1}}, [INFINITY], []), ({"cpu": {"shares": 2}}, [], []),
])
def test_room_for_the_process_that_a_scope_begins_with(resources: dict[str, Any], first: list[int], late: list[int]) -> None:
    properties = list(resource_properties(decode_resources(resources), True))
    assert [value for name, (_, value) in with_room_for_init(properties) if name == "TasksMax"] == first
    assert without_room_for_init(properties) == [("TasksMax", ("t", value)) for value in late]


@pytest.mark.conformance(44)
@pytest.mark.parametrize(("host", "units", "where"), [(V2, "", "child"), (V2, None, "host"), (HYBRID, None, "child")])
def test_when_processes_are_limited(host: Host, units: str | None, where: str) -> None:
    """On v2 before there is one, but in a unit, where there is another, once there is."""
    config = default_config()
    merge(config, {"linux": {"resources": {"pids": {"limit": 1}}}})
    if host is HYBRID:
        host = Host((6, 1), (*HYBRID.hierarchies, Hierarchy("/cg/pids", False, ("pids",))), 0)
    plan = compile(load_spec(json.dumps(config).encode()), host, Place("c", "/b", "/b/rootfs", "/run/c", units))
    written = {name: [each.path for each in getattr(plan, name) if isinstance(each, op.WriteFile) and each.path.endswith(b"pids.max")]
               for name in ("host", "child")}
    assert {name: len(paths) for name, paths in written.items()} == {"host": int(where == "host"), "child": int(where == "child")}


def test_no_limit_of_swap_alone_on_v1() -> None:
    memory = decode_resources({"memory": {"limit": 4096, "swap": 8192}})
    assert [name for name, _ in resource_properties(memory, False)] == ["MemoryMax"]
    with pytest.raises(UnsupportedFieldError):
        list(resource_properties(decode_resources({"memory": {"swap": 8192}}), True))


@pytest.mark.parametrize(("text", "mask"), [("0", b"\x01"), ("0-7", b"\xff"), ("8", b"\0\x01"), ("1,3-4", b"\x1a"), (" 1 , 2 ", b"\x06")])
def test_bit_masks(text: str, mask: bytes) -> None:
    assert bit_mask(text) == mask


def allowances(*rules: Rule) -> tuple[str, set[tuple[str, str]]]:
    properties = dict(device_properties(rules, {("c", 136): "pts", ("c", 10): "misc", ("b", 8): "sd"}))
    return properties["DevicePolicy"][1], set(properties["DeviceAllow"][1])


def rule(allow: bool, type: str = "a", major: int | None = None, minor: int | None = None, access: str = "rwm") -> Rule:
    return Rule(allow, type, major, minor, access)


@pytest.mark.parametrize(("rules", "policy", "allowed"), [
    ((), "strict", set()),
    ((rule(True),), "auto", set()),
    ((rule(True), rule(False)), "strict", set()),
    ((rule(True), rule(False, "b")), "strict", {("char-*", "rwm")}),
    ((rule(True, access="m"),), "strict", {("char-*", "m"), ("block-*", "m")}),
    ((rule(True, "c", 1, 3), rule(True, "c", 1, 3, "r")), "strict", {("/dev/char/1:3", "rwm")}),
    ((rule(True, "c", 1, 3), rule(False, "c", 1, 3, "w")), "strict", {("/dev/char/1:3", "rm")}),
    ((rule(True, "a", 8, 0, "r"),), "strict", {("/dev/char/8:0", "r"), ("/dev/block/8:0", "r")}),
    ((rule(True, "c", 136), rule(True, "b", 8, access="r")), "strict", {("char-pts", "rwm"), ("block-sd", "r")}),
    ((rule(True, "c", 77),), "strict", set()),  # no driver has the number: there is no such device
    # more than the rules do: systemd has no exceptions, and is not the only one that is asked
    ((rule(True, "c", 10), rule(False, "c", 10, 235)), "strict", {("char-misc", "rwm")}),
    ((rule(True, "c", None, 7, "r"),), "strict", {("char-*", "r")}),
])
def test_devices_as_properties(rules: tuple[Rule, ...], policy: str, allowed: set[tuple[str, str]]) -> None:
    assert allowances(*rules) == (policy, allowed)


def test_default_devices_are_always_among_them() -> None:
    policy, allowed = allowances(*device_rules(None))
    assert policy == "strict" and len(allowed) == len(DEFAULT_RULES)
    assert allowed >= {("char-*", "m"), ("block-*", "m"), ("/dev/char/1:3", "rwm"), ("char-pts", "rwm")}


def test_drivers_of_proc_devices() -> None:
    text = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  7 loop\n259 blkext\n"
    assert parse_drivers(text) == {("c", 1): "mem", ("c", 136): "pts", ("b", 7): "loop", ("b", 259): "blkext"}


@pytest.mark.parametrize(("path", "unit"), [
    ("/pyruntime/c", None), ("/a:/b", None), ("/system.slice/x-c.scope", "x-c.scope"), ("/s.slice/a:b.scope", "a:b.scope"),
])
def test_what_is_remembered_before_there_is_a_record(tmp_path: Path, path: str, unit: str | None) -> None:
    store = Store(str(tmp_path / "root"))
    store.add("c")
    assert store.load_cgroup("c") is None
    store.save_cgroup("c", path, unit)
    assert store.load_cgroup("c") == (path, unit)
