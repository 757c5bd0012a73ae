"""Limits that are changed while a container runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from lab import Lab, cgroup_file, is_unified

from pyruntime import NativeRuntime
from pyruntime.cgroups import cgroups_of
from pyruntime.errors import ContainerNotFoundError, InvalidBundleError, NotRunningError, SetupError, UnsupportedFieldError
from pyruntime.host import read_host

MIB = 1 << 20


def limits() -> tuple[str, str, str]:
    """Of memory, of memory with swap (on v2 of swap), of processes."""
    return tuple(cgroup_file(controller, v1, v2).read_text().strip() for controller, v1, v2 in (  # type: ignore[return-value]
        ("memory", "memory.limit_in_bytes", "memory.max"), ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("pids", "pids.max", "pids.max")))


def with_swap(memory: int, swap: int) -> tuple[str, str]:
    return str(memory * MIB), str((swap - memory if is_unified() else swap) * MIB)


def test_up_and_down(lab: Lab) -> None:
    """On v1 each of the two limits of memory has to be written first in one of the directions."""
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    for memory, swap in ((64, 96), (128, 128), (16, 24), (32, 64)):
        lab.runtime.update_container("p1", {"memory": {"limit": memory * MIB, "swap": swap * MIB}})
        assert limits() == (*with_swap(memory, swap), "50")
    lab.runtime.update_container("p1", {"pids": {"limit": 60}, "memory": {"limit": 0}})
    assert limits() == (*with_swap(32, 64), "60")


def test_what_is_not_given_stays(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    before = limits()
    lab.runtime.update_container("p1", {})
    lab.runtime.update_container("p1", b'{"cpu": {"shares": 2048}}')
    assert limits() == before
    assert cgroup_file("cpu", "cpu.shares", "cpu.weight").read_text() == ("174\n" if is_unified() else "2048\n")


def test_a_part_that_fails_takes_all_back(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    before = limits()
    with pytest.raises(SetupError) as caught:
        lab.runtime.update_container("p1", {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"cpus": "4000"}, "pids": {"limit": 9}})
    file = cgroup_file("cpuset", "cpuset.cpus", "cpuset.cpus")
    assert (caught.value.step, caught.value.path, caught.value.json_path) == ("update", str(file), "$.cpu.cpus")
    assert caught.value.errno in (errno.EINVAL, errno.ERANGE)
    assert limits() == before


def test_the_new_limit_binds_also_an_exec(lab: Lab) -> None:
    """One that was not limited at first: what sets an exec up must not count."""
    lab.sleeper()
    lab.runtime.update_container("p1", {"pids": {"limit": 3}})
    for runtime in (NativeRuntime(str(lab.root)), lab.runtime):
        lab.runtime = runtime
        assert lab.exec("/bin/true; echo with one more") == "with one more\n"
    assert lab.exec("/bin/sleep 1 & /bin/sleep 1 & echo with two more") == ""


@pytest.mark.parametrize("change", [Lab.delete_all, lambda lab: lab.runtime.kill_container("p1", 9) or lab.runtime.wait_on_container("p1")])
def test_one_that_does_not_run(lab: Lab, change: Callable[[Lab], None]) -> None:
    lab.sleeper()
    change(lab)
    with pytest.raises((NotRunningError, ContainerNotFoundError)):
        lab.runtime.update_container("p1", {"pids": {"limit": 1}})


def test_created_and_paused(lab: Lab) -> None:
    lab.create(["/bin/sleep", "1000"])
    lab.runtime.update_container("p1", {"pids": {"limit": 11}})
    assert limits()[2] == "11"
    lab.runtime.start_container("p1")
    lab.runtime.pause_container("p1")
    lab.runtime.update_container("p1", {"pids": {"limit": 12}})
    assert limits()[2] == "12"
    lab.runtime.resume_container("p1")


@pytest.mark.parametrize(("resources", "kind", "json_path"), [
    ({"memory": {"limit": "1"}}, InvalidBundleError, "$.memory.limit"),
    ({"memory": {"limit": 8192, "swap": 4096}}, InvalidBundleError, "$.memory.swap"),
    ({"cpu": {"shares": 5, "idle": 1}}, UnsupportedFieldError, "$.cpu.shares"),
    ({"blockIO": {"leafWeight": 5}}, UnsupportedFieldError, "$.blockIO.leafWeight"),
    (b"{", InvalidBundleError, None),
])
def test_what_cannot_be_asked_for(lab: Lab, resources: Any, kind: type[InvalidBundleError], json_path: str | None) -> None:
    lab.sleeper()
    with pytest.raises(kind) as caught:
        lab.runtime.update_container("p1", resources)
    assert (type(caught.value), caught.value.file, caught.value.json_path) == (kind, None, json_path)


# /dev/kmsg, which no container has by default; nothing is written
KMSG = {"type": "c", "major": 1, "minor": 11}
PROBES = [{"path": "/dev/probe", "fileMode": 0o666, **KMSG}]


def may_open(lab: Lab) -> bool:
    assert lab.exec("(: >/dev/null) && echo fine") == "fine\n"
    return "not permitted" not in lab.exec("(: >/dev/probe) 2>&1")


@pytest.mark.conformance(37)
def test_devices(lab: Lab) -> None:
    """Another list in place of the one before: on v2 another program, and the earlier one is not asked any more."""
    lab.sleeper(linux={"devices": PROBES, "resources": {"devices": []}})
    for devices, opens in (([{"allow": True, "access": "w", **KMSG}], True), ([{"allow": True, "access": "r", **KMSG}], False),
                           ([{"allow": True, "type": "a"}], True), ([{"allow": True, "type": "a"}, {"allow": False, **KMSG}], False),
                           ([{"allow": True, "access": "rwm", **KMSG}], True), ([{"allow": False}], False)):
        lab.runtime.update_container("p1", {"devices": devices})
        assert may_open(lab) is opens, devices
    lab.runtime.update_container("p1", {"devices": [{"allow": True, "access": "rwm", **KMSG}]})
    lab.runtime.update_container("p1", {"pids": {"limit": 50}, "devices": []})
    assert may_open(lab), "a list that is not given changes nothing"


@pytest.mark.conformance(37)
def test_no_moment_without_devices(lab: Lab) -> None:
    """What is allowed before and after is allowed in between."""
    pid = lab.create("echo ready; while [ ! -e /tmp/stop ]; do (: >/dev/null) && (: >/dev/probe) || echo denied; done; echo end",
                     linux={"devices": PROBES, "resources": {"devices": [{"allow": True, **KMSG}]}}, root={"readonly": False})
    lab.runtime.start_container("p1")
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None and os.read(out.fileno(), 100) == b"ready\n"
    for i in range(200):
        more = [{"allow": True, "type": "b", "major": 8, "minor": i % 2, "access": "r"}]
        lab.runtime.update_container("p1", {"devices": [{"allow": True, **KMSG}, *more]})
    lab.exec(": >/tmp/stop")
    assert lab.read("p1", pid) == "end\n"


@pytest.mark.conformance(37)
def test_devices_are_not_changed_if_a_limit_fails(lab: Lab) -> None:
    lab.sleeper(linux={"devices": PROBES, "resources": {"devices": []}})
    with pytest.raises(SetupError):
        lab.runtime.update_container("p1", {"devices": [{"allow": True, **KMSG}], "cpu": {"cpus": "4000"}})
    assert not may_open(lab)


@pytest.mark.conformance(37)
def test_devices_that_the_cgroup_above_denies(lab: Lab) -> None:
    """v1 refuses them, and all of the list is as it was; on v2 both are asked."""
    path = "/pyruntime-above/p1"
    lab.run("true", linux={"cgroupsPath": path})
    above = cgroups_of(read_host(), "/pyruntime-above")
    try:
        lab.sleeper(linux={"cgroupsPath": path, "devices": PROBES, "resources": {"devices": [{"allow": True, "access": "w", **KMSG}]}})
        assert may_open(lab)
        if not is_unified():
            (parent,) = (Path(cgroup.path) for cgroup in above if "devices" in cgroup.controllers)
            (parent / "devices.deny").write_text("b 8:* rwm")
            before = (parent / "p1/devices.list").read_text()
            others = [{"allow": True, "type": "b", "major": major, "minor": 0, "access": "rwm"} for major in (7, 8, 9)]
            with pytest.raises(SetupError) as caught:
                lab.runtime.update_container("p1", {"devices": others, "pids": {"limit": 50}})
            assert (caught.value.errno_name, caught.value.json_path) == ("EPERM", "$.devices")
            assert sorted((parent / "p1/devices.list").read_text().splitlines()) == sorted(before.splitlines())
            assert may_open(lab) and (limits_file := cgroup_file("pids", "pids.max", "pids.max", "../pyruntime-above/p1")).exists()
            assert limits_file.read_text() == "max\n"
    finally:
        lab.delete_all()
        for cgroup in above:
            os.rmdir(cgroup.path)


@pytest.mark.conformance(40)
def test_shares_that_idle_makes_forgotten_come_back(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"cpu": {"shares": 512}}})
    file = cgroup_file("cpu", "cpu.shares", "cpu.weight")
    before = file.read_text()
    with pytest.raises(SetupError):
        lab.runtime.update_container("p1", {"cpu": {"idle": 1}, "unified": {"cgroup.max.depth": "many"}})
    assert cgroup_file("cpu", "cpu.idle", "cpu.idle").read_text() == "0\n"
    assert file.read_text() == before != "100\n"


@pytest.mark.conformance(38)
def test_no_limit_of_memory_is_none_of_both(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 64 * MIB}}})
    lab.runtime.update_container("p1", {"memory": {"limit": -1}})
    assert limits()[:2] == (("max", "max") if is_unified() else (str(2**63 - 4096),) * 2)


@pytest.mark.conformance(38)
def test_swap_alone(lab: Lab) -> None:
    """It is memory and swap together, with the limit of memory that there is."""
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}})
    lab.runtime.update_container("p1", {"memory": {"swap": 80 * MIB}})
    assert limits()[:2] == with_swap(32, 80)


CPU_FILES = (("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"), ("cpu.max", "cpu.max.burst"))


@pytest.mark.conformance(40)
def test_time_of_processors(lab: Lab) -> None:
    """A quota or a period alone leaves the other; below a cgroup that allows a tenth, the share is at no time greater."""
    lab.run("true", linux={"cgroupsPath": "/pyruntime-tenth/p1"})
    parents = [Path(cgroup.path) for cgroup in cgroups_of(read_host(), "/pyruntime-tenth")]
    (parent,) = (Path(cgroup.path) for cgroup in cgroups_of(read_host(), "/pyruntime-tenth") if is_unified() or "cpu" in cgroup.controllers)
    for file, text in [("cpu.max", "10000 100000")] if is_unified() else [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "10000")]:
        (parent / file).write_text(text)

    def now() -> list[int]:
        """Quota, period, burst."""
        return [int(word) for file in CPU_FILES[is_unified()] for word in (parent / "p1" / file).read_text().split()]

    try:
        lab.sleeper(linux={"cgroupsPath": "/pyruntime-tenth/p1", "resources": {"cpu": {"quota": 10000, "period": 100000, "burst": 9000}}})
        assert now() == [10000, 100000, 9000]
        for cpu, expected in (({"quota": 2000, "period": 20000, "burst": 1000}, [2000, 20000, 1000]),
                              ({"quota": 5000, "period": 50000, "burst": 5000}, [5000, 50000, 5000]),
                              ({"period": 200000}, [5000, 200000, 5000]), ({"quota": 15000}, [15000, 200000, 5000]),
                              ({"quota": 3000, "period": 30000, "burst": 0}, [3000, 30000, 0])):
            lab.runtime.update_container("p1", {"cpu": cpu})
            assert now() == expected
        more = {"cpu": {"quota": 9000}, "pids": {"limit": 7}}
        if is_unified():  # which takes it; the cgroup above has no more all the same
            lab.runtime.update_container("p1", more)
            return
        with pytest.raises(SetupError) as caught:
            lab.runtime.update_container("p1", more)
        assert (caught.value.errno_name, caught.value.json_path) == ("EINVAL", "$.cpu.quota") and now() == expected
    finally:
        lab.delete_all()
        for path in parents:
            path.rmdir()


@pytest.mark.conformance(41)
def test_block_io_is_taken_back(lab: Lab) -> None:
    """Also for a device that had no limit before."""
    disk = block_device()
    if disk is None:
        pytest.skip("no block device whose input and output can be limited")
    device = dict(zip(("major", "minor"), map(int, disk.split(":")), strict=True))
    lab.sleeper(linux={"resources": {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 1 << 20}]}}})
    file = cgroup_file("blkio", "blkio.throttle.read_bps_device", "io.max")
    other = cgroup_file("blkio", "blkio.throttle.write_iops_device", "io.max")
    before = file.read_text(), other.read_text()
    assert disk in before[0]
    block_io = {"throttleReadBpsDevice": [{**device, "rate": 2 << 20}], "throttleWriteIOPSDevice": [{**device, "rate": 9}]}
    with pytest.raises(SetupError):
        lab.runtime.update_container("p1", {"blockIO": block_io, "unified": {"cgroup.max.depth": "many"}})
    assert (file.read_text(), other.read_text()) == before
    lab.runtime.update_container("p1", {"blockIO": block_io})
    assert f"{disk} rbps={2 << 20} wbps=max riops=max wiops=9" in file.read_text() if is_unified() else (
        f"{disk} {2 << 20}\n", f"{disk} 9\n") == (file.read_text(), other.read_text())
    lab.runtime.update_container("p1", {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 0}],
                                                    "throttleWriteIOPSDevice": [{**device, "rate": 0}]}})
    assert (file.read_text(), other.read_text()) == ("", "")


def block_device() -> str | None:
    """The numbers of one that has a request queue of its own."""
    for path in sorted(Path("/sys/class/block").glob("*/dev")):
        if (path.parent / "queue").exists() and not path.parent.name.startswith(("ram", "loop")):
            return path.read_text().strip()
    return None


def test_a_write_that_the_kernel_refuses(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"pids": {"limit": 50}}})

    def refused() -> None:
        with pytest.raises(SetupError) as caught:
            lab.runtime.update_container("p1", {"pids": {"limit": 9}})
        assert (caught.value.errno_name, caught.value.json_path) == ("EIO", "$.pids.limit")

    Fault("write", "EIO", {2: 1}).during(refused)
    assert limits()[2] == "50"


def test_rules_that_deny_more_than_they_say_are_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Here as at the creation: one that names an access that does not exist denies every access."""
    lab.sleeper()
    null = {"type": "c", "major": 1, "minor": 3}
    with caplog.at_level("WARNING", "pyruntime"):
        lab.runtime.update_container("p1", {"devices": [{"allow": False, "access": "rwm"}, {"allow": False, "access": "wx", **null}]})
    assert caplog.messages == ["resources.devices[1]: all access is denied, since 'wx' has letters other than r, w, m"]
    caplog.clear()
    with pytest.raises(InvalidBundleError) as caught:
        lab.runtime.update_container("p1", {"devices": [{"allow": True, "access": "wx", **null}]})
    assert caught.value.json_path == "$.devices[0].access" and not caplog.messages
