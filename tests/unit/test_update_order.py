"""Changed resources: what belongs to them, in which order they are written, and how they are taken back."""

from __future__ import annotations

from typing import Any

import pytest

from pyruntime.plan.device_rules import V1Devices
from pyruntime.plan.operations import WriteFile
from pyruntime.plan.update import completed, in_order, taking_back, v1_device_changes
from pyruntime.spec import decode_resources


def write(file: str, value: str) -> WriteFile:
    return WriteFile("$", f"/cg/c/{file}".encode(), (value.encode(), value.encode()), expected=1)


def order(new: dict[str, str], now: dict[str, str]) -> list[str]:
    """Of the files."""
    ordered = in_order([write(*item) for item in new.items()], lambda each: now.get(each.path.decode().rpartition("/")[2]))
    return [each.path.decode().rpartition("/")[2] for each in ordered]


LIMIT, WITH_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
QUOTA, PERIOD, BURST = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"
RT_RUNTIME, RT_PERIOD = "cpu.rt_runtime_us", "cpu.rt_period_us"


@pytest.mark.conformance(38)
@pytest.mark.parametrize(("limit", "swap", "now", "first"), [
    ("20", "30", "10", WITH_SWAP), ("10", "30", "10", LIMIT), ("5", "6", "10", LIMIT), ("-1", "-1", "10", WITH_SWAP),
    ("11", "11", "10", WITH_SWAP),
])
def test_memory_and_swap(limit: str, swap: str, now: str, first: str) -> None:
    assert order({LIMIT: limit, WITH_SWAP: swap}, {WITH_SWAP: f"{now}\n"})[0] == first


@pytest.mark.conformance(40)
@pytest.mark.parametrize(("time", "period"), [(QUOTA, PERIOD), (RT_RUNTIME, RT_PERIOD)])
def test_time_and_period(time: str, period: str) -> None:
    """When the period grows it is the first, when it shrinks the time is: the share is never above both."""
    assert order({period: "20000", time: "9000"}, {period: "10000\n"}) == [period, time]
    assert order({period: "5000", time: "9000"}, {period: "10000\n"}) == [time, period]


@pytest.mark.conformance(40)
@pytest.mark.parametrize(("quota", "burst"), [(QUOTA, BURST), ("cpu.max", "cpu.max.burst")])
def test_quota_and_burst(quota: str, burst: str) -> None:
    """A burst is at no time above the quota."""
    assert order({quota: "9000 10000", burst: "8000"}, {burst: "100\n"}) == [quota, burst]
    assert order({quota: "3000 10000", burst: "2000"}, {burst: "5000\n"}) == [burst, quota]
    assert order({quota: "-1", burst: "2000"}, {burst: "5000\n"}) == [quota, burst]
    assert order({quota: "max 10000", burst: "2000"}, {burst: "5000\n"}) == [quota, burst]


def test_others_keep_their_order() -> None:
    assert order({"pids.max": "1", LIMIT: "5", "cpu.shares": "2"}, {}) == ["pids.max", LIMIT, "cpu.shares"]


@pytest.mark.conformance(38, 40)
@pytest.mark.parametrize(("is_unified", "given", "files", "expected"), [
    (True, {"cpu": {"quota": 5000}}, {"cpu.max": "max 20000\n"}, {"cpu": {"quota": 5000, "period": 20000}}),
    (True, {"cpu": {"period": 5000}}, {"cpu.max": "7000 20000\n"}, {"cpu": {"quota": 7000, "period": 5000}}),
    (True, {"cpu": {"period": 5000}}, {"cpu.max": "max 20000\n"}, {"cpu": {"quota": -1, "period": 5000}}),
    (False, {"cpu": {"quota": 5000}}, {QUOTA: "-1\n", PERIOD: "20000\n"}, {"cpu": {"quota": 5000, "period": 20000}}),
    (False, {"cpu": {"quota": 5000, "period": 9000}}, {QUOTA: "-1\n", PERIOD: "20000\n"}, {"cpu": {"quota": 5000, "period": 9000}}),
    (True, {"cpu": {"shares": 5}}, {"cpu.max": "max 20000\n"}, {"cpu": {"shares": 5}}),
    (True, {"memory": {"swap": 50}}, {"memory.max": "20\n"}, {"memory": {"swap": 50, "limit": 20}}),
    (True, {"memory": {"swap": 50}}, {"memory.max": "max\n"}, {"memory": {"swap": 50}}),
    (True, {"memory": {"swap": -1}}, {"memory.max": "20\n"}, {"memory": {"swap": -1}}),
    (True, {"memory": {"swap": 50, "limit": 30}}, {"memory.max": "20\n"}, {"memory": {"swap": 50, "limit": 30}}),
    (False, {"memory": {"swap": 50}}, {"memory.max": "20\n"}, {"memory": {"swap": 50}}),
    (True, {"cpu": {"quota": 5000}}, {}, {"cpu": {"quota": 5000}}),
])
def test_what_belongs_to_what_is_given(is_unified: bool, given: dict[str, Any], files: dict[str, str], expected: dict[str, Any]) -> None:
    found = completed(decode_resources(given), is_unified, lambda _, file: files.get(file))
    assert found == decode_resources(expected)


@pytest.mark.parametrize(("file", "value", "before", "texts"), [
    ("pids.max", "5", "max\n", ["max\n"]), ("cpuset.cpus", "0", "\n", ["\n"]), ("cpuset.cpus", "0", "", ["\n"]),
    ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", ["0\n"]),
    ("io.max", "8:0 rbps=5", "", ["8:0 rbps=max wbps=max riops=max wiops=max\n"]),
    ("io.max", "8:0 rbps=5", "8:0 rbps=9 wbps=max riops=max wiops=max\n8:16 rbps=1 wbps=2 riops=3 wiops=4\n",
     ["8:0 rbps=9 wbps=max riops=max wiops=max\n", "8:16 rbps=1 wbps=2 riops=3 wiops=4\n"]),
    ("io.weight", "8:0 5", "default 100\n", ["8:0 default\n", "default 100\n"]),
    ("io.bfq.weight", "default 5", "default 100\n", ["default 100\n"]),
    ("blkio.throttle.read_bps_device", "8:0 5", "8:16 7\n", ["8:0 0\n", "8:16 7\n"]),
    ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 3\n", ["lo 0\n", "eth0 3\n"]),
])
def test_taking_back(file: str, value: str, before: str, texts: list[str]) -> None:
    assert [text.decode() for text in taking_back(write(file, value), before)] == texts


@pytest.mark.conformance(37)
@pytest.mark.parametrize(("before", "wanted", "changes"), [
    # nothing that is allowed before and after is denied in between
    ("c 1:3 rwm\nc 1:5 rwm\n", V1Devices(False, ("c 1:3 r", "b 8:0 rw")),
     [("devices.allow", ("b 8:0 rw",)), ("devices.deny", ("c 1:3 mw", "c 1:5 mrw"))]),
    ("c *:* m\nc 136:* rwm\n", V1Devices(False, ("c *:* m", "c 136:* rwm")), []),
    ("a *:* rwm\n", V1Devices(False, ("c 1:3 r",)), [("devices.deny", ("a",)), ("devices.allow", ("c 1:3 r",))]),
    ("c 1:3 r\n", V1Devices(True, ("c 1:3 w",)), [("devices.allow", ("a",)), ("devices.deny", ("c 1:3 w",))]),
    ("a *:* rwm\n", V1Devices(True, ()), [("devices.allow", ("a",))]),
])
def test_devices_of_v1(before: str, wanted: V1Devices, changes: list[tuple[str, tuple[str, ...]]]) -> None:
    assert v1_device_changes(before, wanted) == changes
