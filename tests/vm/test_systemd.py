"""The systemd cgroup driver under a systemd that runs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
from jeepney.io.blocking import Proxy, open_dbus_connection
from lab import Lab
from unit_lab import CGROUP, CGROUPS, MIB, SCOPE, files, is_known, show, systemctl

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.cgroups import ContainerCgroups
from pyruntime.errors import InvalidBundleError, NotRunningError, SetupError
from pyruntime.testing import ContainerContract
from pyruntime.testing.case import in_thread

RESOURCES = {"memory": {"limit": 100 * MIB, "swap": 150 * MIB, "reservation": 50 * MIB},
             "cpu": {"shares": 512, "quota": 25001, "period": 50000, "cpus": "0", "mems": "0"}, "pids": {"limit": 77}}


class TestSystemd(ContainerContract):
    """The contract, in units."""

    differences = {"changes-directory-at-create": "so that everything but the program itself is known to work when create returns"}

    def new_runtime(self, root: Path) -> NativeRuntime:
        return NativeRuntime(str(root), systemd_cgroup=True)

    def cgroups_path(self, id: str) -> str:
        return "system.slice:contract:" + id.replace("+", "\\x2b")


def test_a_containers_unit(units: Lab) -> None:
    pid = units.sleeper()
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/system.slice/{SCOPE}\n"
    assert (CGROUP / "cgroup.procs").read_text() == f"{pid}\n"  # and what held the unit has gone
    assert show(SCOPE, "Description", "Slice", "Delegate", "DefaultDependencies", "CollectMode", "ActiveState", "CPUAccounting",
                "MemoryAccounting", "IOAccounting", "TasksAccounting", "Transient") == {
        "Description": "pyruntime container p1", "Slice": "system.slice", "Delegate": "yes", "DefaultDependencies": "no",
        "CollectMode": "inactive-or-failed", "ActiveState": "active", "CPUAccounting": "yes", "MemoryAccounting": "yes",
        "IOAccounting": "yes", "TasksAccounting": "yes", "Transient": "yes"}
    out = units.exec("cat /proc/self/cgroup; echo $$")
    assert out.splitlines()[0] == "0::/"  # of its cgroup namespace
    inside = units.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    assert Path(f"/proc/{inside}/cgroup").read_text() == f"0::/system.slice/{SCOPE}\n"
    units.runtime.pause_container("p1")
    assert files(CGROUP, "cgroup.freeze") == ["1"]
    units.runtime.resume_container("p1")
    units.runtime.delete_container("p1", force=True)
    assert not is_known(SCOPE) and not CGROUP.exists()


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("path", "unit", "cgroup"), [
    ("machine.slice:libpod:p1", "libpod-p1.scope", "machine.slice/libpod-p1.scope"),
    ("system.slice:docker:p1", "docker-p1.scope", "system.slice/docker-p1.scope"),
    (":cri:p1", "cri-p1.scope", "system.slice/cri-p1.scope"),
    ("kubepods-burstable-pod1.slice:cri-containerd:p1", "cri-containerd-p1.scope",
     "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-p1.scope"),
    ("-.slice:x:p1", "x-p1.scope", "x-p1.scope"),
    ("system.slice::p1", "p1.scope", "system.slice/p1.scope"),
    ("system.slice:unused:test-p1.slice", "test-p1.slice", "test.slice/test-p1.slice"),
])
def test_cgroups_path(units: Lab, path: str, unit: str, cgroup: str) -> None:
    pid = units.sleeper(linux={"cgroupsPath": path})
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/{cgroup}\n"
    assert show(unit, "ControlGroup", "ActiveState") == {"ControlGroup": f"/{cgroup}", "ActiveState": "active"}
    assert files(CGROUPS / cgroup, "cgroup.procs") == [str(pid)]
    # by one that was not told of systemd
    NativeRuntime(str(units.root)).delete_container("p1", force=True)
    # a slice is known by its name alone
    assert show(unit, "ActiveState") == {"ActiveState": "inactive"} and (unit.endswith(".slice") or not is_known(unit))
    assert not (CGROUPS / cgroup).exists()


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("path", "reason"), [
    ("/pyruntime/p1", "is not of the form slice:prefix:name"), ("a:b:c:d", "is not of the form"), ("system.slice:x:", "names no unit"),
    ("system:x:p1", "is no slice"), ("a--b.slice:x:p1", "is no slice"), ("-a.slice:x:p1", "is no slice"), ("a-.slice:x:p1", "is no slice"),
    ("a/b.slice:x:p1", "is no slice"), ("system.slice:x y:p1", "' ' cannot be in a unit's name"),
    ("system.slice:../x:p1", "'/' cannot be in a unit's name"), ("system.slice:x:" + "p" * 250, "characters"),
    ("system.slice:x:-.slice", "is no slice of systemd's for a container"),
])
def test_paths_that_are_no_units(units: Lab, path: str, reason: str) -> None:
    with pytest.raises(InvalidBundleError, match=reason) as caught:
        units.create("true", linux={"cgroupsPath": path})
    assert caught.value.json_path == "$.linux.cgroupsPath"
    assert not units.runtime.container_exists("p1")


def test_an_id_that_no_unit_can_have(units: Lab) -> None:
    """A plus is escaped, where it is not the caller who names the unit."""
    for id in ("p+1", "p+2"):
        pid = units.sleeper(id)
        assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/system.slice/pyruntime-p\\x2b{id[2]}.scope\n"
        assert (units.root / id / "start").parent.is_dir()
        units.runtime.delete_container(id, force=True)
    with pytest.raises(InvalidBundleError, match=r"'\+' cannot be in a unit's name"):
        units.create("true", linux={"cgroupsPath": "system.slice:pyruntime:p+1"})


@pytest.mark.conformance(38, 40, 44)
def test_limits_are_the_units_and_stay(units: Lab) -> None:
    """systemd writes its own idea of a limit whenever it is reloaded: it has to be the container's."""
    units.sleeper(linux={"resources": RESOURCES})
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max")
    wanted = [str(100 * MIB), str(50 * MIB), str(50 * MIB), "59", "0", "0", "77"]
    assert files(CGROUP, *names) == wanted
    assert files(CGROUP, "cpu.max") == ["25001 50000"]  # and systemd's is rounded up to a whole percent
    assert show(SCOPE, "MemoryMax", "MemorySwapMax", "MemoryLow", "CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec",
                "AllowedCPUs", "AllowedMemoryNodes", "TasksMax") == {
        "MemoryMax": str(100 * MIB), "MemorySwapMax": str(50 * MIB), "MemoryLow": str(50 * MIB), "CPUWeight": "59",
        "CPUQuotaPerSecUSec": "510ms", "CPUQuotaPeriodUSec": "50ms", "AllowedCPUs": "0", "AllowedMemoryNodes": "0", "TasksMax": "77"}
    systemctl("daemon-reload")
    assert files(CGROUP, *names) == wanted


@pytest.mark.conformance(46)
def test_unified_limits_are_the_units_too(units: Lab) -> None:
    units.sleeper(linux={"resources": {"unified": {
        "memory.high": str(40 * MIB), "memory.min": "4096", "pids.max": "max", "cpu.weight": "77", "cpu.max": "20000 40000",
        "memory.oom.group": "1", "cpuset.cpus": "0-1"}}})
    assert show(SCOPE, "MemoryHigh", "MemoryMin", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs") == {
        "MemoryHigh": str(40 * MIB), "MemoryMin": "4096", "TasksMax": "infinity", "CPUWeight": "77", "CPUQuotaPerSecUSec": "500ms",
        "AllowedCPUs": "0-1"}
    systemctl("daemon-reload")
    assert files(CGROUP, "memory.high", "memory.min", "cpu.max") == [str(40 * MIB), "4096", "20000 40000"]


@pytest.mark.conformance(37)
def test_devices_stay_allowed_and_denied(units: Lab) -> None:
    """Those of the list and the default ones, after systemd has been reloaded; what a later rule takes back is denied."""
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "rwm"},
             {"allow": False, "type": "c", "major": 10, "minor": 235, "access": "rwm"},
             {"allow": True, "type": "b", "major": os.major(os.stat("/dev/vda").st_rdev), "minor": 0, "access": "r"}]
    status = os.stat("/dev/vda")
    devices = [{"path": "/dev/disk", "type": "b", "major": os.major(status.st_rdev), "minor": 0},
               {"path": "/dev/other", "type": "c", "major": 10, "minor": 235},
               {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
    units.sleeper(linux={"devices": devices, "resources": {"devices": rules}})
    allowed = show(SCOPE, "DevicePolicy", "DeviceAllow")
    assert allowed["DevicePolicy"] == "strict"
    shown = systemctl("show", SCOPE, "-pDeviceAllow")
    assert "DeviceAllow=char-misc rwm\n" in shown and "DeviceAllow=/dev/char/1:3 rwm\n" in shown
    assert "DeviceAllow=char-pts rwm\n" in shown and "1:11" not in shown

    def tried() -> str:
        return units.exec("head -c1 /dev/disk >/dev/null && echo disk; head -c1 /dev/null && echo null; "
                          "(: </dev/other) 2>&1; (: </dev/kmsg) 2>&1; (: >>/dev/disk) 2>&1")

    before = tried().splitlines()
    assert before[:2] == ["disk", "null"]
    assert [line.rpartition(": ")[2] for line in before[2:]] == ["Operation not permitted"] * 3
    systemctl("daemon-reload")
    assert tried().splitlines() == before


@pytest.mark.conformance(41)
def test_block_io_is_the_units_too(units: Lab) -> None:
    status = os.stat("/dev/vda")
    numbers = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
    name = f"{numbers['major']}:{numbers['minor']}"
    block_io = {"weight": 500, **{f"throttle{kind}Device": [{**numbers, "rate": rate}] for kind, rate in (
        ("ReadBps", MIB), ("WriteBps", 2 * MIB), ("ReadIOPS", 30), ("WriteIOPS", 40))}}
    units.sleeper(linux={"resources": {"blockIO": block_io}})
    limits = f"{name} rbps={MIB} wbps={2 * MIB} riops=30 wiops=40"
    assert files(CGROUP, "io.max", "io.weight") == [limits, "default 4950"]
    shown = show(SCOPE, "IOWeight", "IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax")
    assert shown == {"IOWeight": "4950", **{key: f"/dev/block/{name} {rate}" for key, rate in (
        ("IOReadBandwidthMax", MIB), ("IOWriteBandwidthMax", 2 * MIB), ("IOReadIOPSMax", 30), ("IOWriteIOPSMax", 40))}}
    systemctl("daemon-reload")
    assert files(CGROUP, "io.max", "io.weight") == [limits, "default 4950"]
    units.runtime.update_container("p1", {"blockIO": {"weight": 10, "throttleReadBpsDevice": [{**numbers, "rate": 0}]}})
    wanted = [f"{name} rbps=max wbps={2 * MIB} riops=30 wiops=40", "default 1"]
    assert files(CGROUP, "io.max", "io.weight") == wanted
    systemctl("daemon-reload")
    assert files(CGROUP, "io.max", "io.weight") == wanted


@pytest.mark.conformance(44)
def test_no_further_process(units: Lab) -> None:
    """systemd knows no limit of 0."""
    units.sleeper(linux={"resources": {"pids": {"limit": 0}}}, ociVersion="1.3.0")
    assert files(CGROUP, "pids.max") == ["1"] and show(SCOPE, "TasksMax") == {"TasksMax": "1"}


@pytest.mark.conformance(37)
def test_devices_that_are_changed(units: Lab) -> None:
    """The container's own program and the unit's: both have to allow, also after systemd has been reloaded."""
    kmsg = {"type": "c", "major": 1, "minor": 11}
    units.sleeper(linux={"devices": [{"path": "/dev/probe", "fileMode": 0o666, **kmsg}], "resources": {"devices": []}})

    def may_open() -> bool:
        return "not permitted" not in units.exec("(: >/dev/probe) 2>&1")

    for devices, opens in (([{"allow": True, "access": "w", **kmsg}], True), ([{"allow": True, "type": "c", "major": 10}], False),
                           ([{"allow": True, "type": "a"}], True), ([{"allow": False}], False)):
        units.runtime.update_container("p1", {"devices": devices})
        assert may_open() is opens
        systemctl("daemon-reload")
        assert may_open() is opens
        assert ("1:11" in systemctl("show", SCOPE, "-pDeviceAllow")) is (devices[0].get("minor") == 11)


def test_every_device(units: Lab) -> None:
    units.sleeper(linux={"resources": {"devices": [{"allow": True, "access": "rwm"}]}})
    assert show(SCOPE, "DevicePolicy", "DeviceAllow") == {"DevicePolicy": "auto"}


def test_update(units: Lab) -> None:
    units.sleeper(linux={"resources": {"memory": {"limit": 100 * MIB}}})
    units.runtime.update_container("p1", {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"shares": 2048}, "pids": {"limit": 9}})
    names = ("memory.max", "memory.swap.max", "cpu.weight", "pids.max")
    wanted = [str(64 * MIB), "0", "174", "9"]
    assert files(CGROUP, *names) == wanted
    systemctl("daemon-reload")
    assert files(CGROUP, *names) == wanted
    assert show(SCOPE, "MemoryMax", "TasksMax", "Description") == {
        "MemoryMax": str(64 * MIB), "TasksMax": "9", "Description": "pyruntime container p1"}
    # one part cannot be: nothing is changed
    with pytest.raises(SetupError) as caught:
        units.runtime.update_container("p1", {"memory": {"limit": 32 * MIB}, "unified": {"cpuset.cpus": "77"}})
    assert (caught.value.step, caught.value.json_path) == ("update", '$.unified["cpuset.cpus"]')
    assert files(CGROUP, *names) == wanted
    assert show(SCOPE, "MemoryMax") == {"MemoryMax": str(64 * MIB)}


@pytest.mark.conformance(60)
def test_the_unit_ends_with_the_container(units: Lab) -> None:
    """Nothing is in its cgroup then, and systemd forgets it; what the kernel counted is gone with it."""
    units.create("true")
    with open_dbus_connection("SYSTEM") as bus:
        systemd = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
        removed = MatchRule(type="signal", interface=systemd.interface, member="UnitRemoved", path=systemd.object_path)
        Proxy(message_bus, bus).AddMatch(removed)
        bus.send_and_get_reply(new_method_call(systemd, "Subscribe"))
        with bus.filter(removed, bufsize=None) as signals:
            units.runtime.start_container("p1")
            units.runtime.wait_on_container("p1")
            while bus.recv_until_filtered(signals, timeout=60).body[0] != SCOPE:
                pass
    assert not is_known(SCOPE)
    with pytest.raises(NotRunningError):
        units.runtime.update_container("p1", {"pids": {"limit": 1}})
    units.runtime.delete_container("p1")


@pytest.mark.conformance(38)
def test_want_of_memory_is_told_when_the_cgroup_is_gone(units: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd removes it as soon as nothing runs in it, which may be before anybody has read what its memory was short of."""
    read, is_waited_for = ContainerCgroups.oom_kills, threading.Event()

    def late(cgroups: ContainerCgroups) -> int | None:
        """The first time it is read when a wait begins."""
        deadline = time.monotonic() + 60
        while is_waited_for.is_set() and CGROUP.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        is_waited_for.set()
        return read(cgroups)

    monkeypatch.setattr(ContainerCgroups, "oom_kills", late)
    limit = {"resources": {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}}
    units.create("read x; x=0123456789abcdef; while :; do x=$x$x; done", stdio=StdioOptions(True), linux=limit)
    units.runtime.start_container("p1")
    ended = in_thread(lambda: units.runtime.wait_on_container("p1"), 120)
    assert is_waited_for.wait(60)
    pipe = units.runtime.get_stdio_pipes("p1", units.runtime.get_init_pid("p1")).in_
    assert pipe is not None
    pipe.close()
    state = ended()
    assert (state.signal, state.oom_killed) == (signal.SIGKILL, True)


def test_the_same_name_again_at_once(units: Lab) -> None:
    for _ in range(5):
        assert units.run("echo yes") == "yes\n"


def test_a_unit_of_somebody_else(units: Lab) -> None:
    """It is let be, with what runs in it, and so is the container's id."""
    other = subprocess.Popen(["systemd-run", "--quiet", "--scope", f"--unit={SCOPE}", "sleep", "1000"])
    try:
        while not is_known(SCOPE) or show(SCOPE, "ActiveState") != {"ActiveState": "active"}:
            assert other.poll() is None
        with pytest.raises(SetupError) as caught:
            units.create("true")
        assert (caught.value.path, caught.value.errno_name, caught.value.json_path) == (SCOPE, "EEXIST", "$.linux.cgroupsPath")
        assert "UnitExists" in caught.value.detail
        assert not units.runtime.container_exists("p1")
        assert show(SCOPE, "ActiveState") == {"ActiveState": "active"} and other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_unit_that_has_failed(units: Lab) -> None:
    subprocess.run(["systemd-run", "--quiet", "--scope", f"--unit={SCOPE}", "-pRuntimeMaxSec=1", "sleep", "1000"], check=False)
    assert show(SCOPE, "ActiveState") == {"ActiveState": "failed"}
    assert units.run("echo yes") == "yes\n"


@pytest.mark.parametrize("changes", [
    {"mounts": [{"destination": "/x", "source": "/none", "options": ["bind"]}]},
    {"linux": {"resources": {"unified": {"cpuset.cpus": "77"}}}},
    {"linux": {"resources": {"unified": {"memory.none": "1"}}}},
])
def test_a_create_that_fails_leaves_no_unit(units: Lab, changes: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        units.create("true", **changes)
    assert not is_known(SCOPE) and not CGROUP.exists() and not units.runtime.container_exists("p1")


INTERRUPTED = """
import os, sys
from pyruntime import NativeRuntime, StdioOptions
from pyruntime.cgroups import ContainerCgroups
from pyruntime.runtimes import creation
def die(*arguments, **more):
    os.kill(os.getpid(), 9)
creation.launch = die
NativeRuntime(sys.argv[1], systemd_cgroup=True).create_container("p1", sys.argv[2], StdioOptions())
"""


def test_a_caller_that_dies_meanwhile(units: Lab) -> None:
    """What held the unit ends with it, and systemd forgets the unit."""
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, str(units.root), units.bundle("true")], check=False)
    assert ended.returncode == -signal.SIGKILL
    units.runtime.delete_container("p1", force=True)
    assert not is_known(SCOPE) and not CGROUP.exists()


def test_delete_with_a_damaged_state(units: Lab) -> None:
    units.sleeper(linux={"cgroupsPath": "machine.slice:other:p1"})
    (units.root / "p1" / "state.json").write_text("{")
    NativeRuntime(str(units.root)).delete_container("p1", force=True)
    units.runtime.list_container_states()
    assert not is_known("other-p1.scope") and not (CGROUPS / "machine.slice/other-p1.scope").exists()


def test_a_bus_that_is_down(units: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No container can be made, and those that there are can be deleted."""
    units.sleeper()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/none")
    with pytest.raises(SetupError) as caught:
        units.create("true", "p2")
    assert (caught.value.step, caught.value.path, caught.value.errno_name) == ("connect to the system bus", "/none", "ENOENT")
    with caplog.at_level(logging.WARNING, "pyruntime"):
        units.runtime.delete_container("p1", force=True)
    assert "systemd was not told that pyruntime-p1.scope has ended" in caplog.text
    assert not CGROUP.exists()
    monkeypatch.undo()
    assert units.run("echo yes", "p1") == "yes\n"


def test_many_at_once(units: Lab) -> None:
    failures: list[BaseException] = []

    def cycle(id: str) -> None:
        try:
            for _ in range(3):
                assert units.run(f"echo {id}", id) == f"{id}\n"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=cycle, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_restored_container_has_a_unit(units: Lab) -> None:
    """The same as a new one, with the limits of config.json; it goes with the container."""
    changes = {"linux": {"resources": RESOURCES}}
    units.sleeper(**changes)
    image, bundle = str(units.directory / "image"), units.runtime.get_container_state("p1").bundle_path
    units.runtime.checkpoint_container("p1", image)
    units.runtime.wait_on_container("p1")
    units.runtime.delete_container("p1")
    assert not is_known(SCOPE)
    pid = units.runtime.restore_container("p1", bundle, image, StdioOptions())
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/system.slice/{SCOPE}\n"
    assert show(SCOPE, "ActiveState", "TasksMax") == {"ActiveState": "active", "TasksMax": "77"}
    assert files(CGROUP, "pids.max", "memory.max", "cgroup.procs") == ["77", str(100 * MIB), str(pid)]
    units.runtime.delete_container("p1", force=True)
    assert not is_known(SCOPE)
