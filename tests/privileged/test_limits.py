"""Limits that bind or are set, on whichever cgroups the host has, and where these are."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, cgroup_file, is_unified

from pyruntime import StdioOptions
from pyruntime.cgroups import cgroups_of
from pyruntime.errors import NotPausedError, SetupError, UnsupportedFieldError
from pyruntime.host import read_host
from pyruntime.native import process as native
from pyruntime.native.encoder import encode
from pyruntime.plan import operations as op
from pyruntime.plan.device_rules import DEFAULT_RULES, Rule, device_program
from pyruntime.plan.operations import Plan, Slot

MIB = 1 << 20
UNLIMITED_V1 = 2**63 - 4096  # what the kernel makes of -1 in bytes


def memberships(pid: int | str) -> dict[str, str]:
    rows = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    # a hierarchy that was mounted once can outlive its unmounting as long as it has cgroups
    mounted = {",".join(hierarchy.controllers) for hierarchy in read_host().hierarchies}
    return {controllers: path for _, controllers, path in rows if controllers in mounted}


def with_resources(**resources: Any) -> dict[str, Any]:
    return {"linux": {"resources": resources}}


def setting(controller: str, v1: str, v2: str) -> str:
    """What the kernel has for container p1."""
    return cgroup_file(controller, v1, v2).read_text().strip()


def counters(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


@pytest.mark.conformance(34)
def test_default_path_in_every_hierarchy(lab: Lab) -> None:
    pid = lab.sleeper()
    inside = memberships(pid)
    assert set(inside.values()) == {"/pyruntime/p1"}
    assert set(inside) == set(memberships("self"))
    lab.exec("true")


@pytest.mark.conformance(34)
def test_exec_joins(lab: Lab) -> None:
    lab.sleeper(linux={"cgroupsPath": "/pyruntime/p-own"})
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    assert set(memberships(pid).values()) == {"/pyruntime/p-own"}


@pytest.mark.conformance(34)
def test_controllers_reach_a_deep_path(lab: Lab) -> None:
    path = "/pyruntime/p-deep/p-er"
    lab.sleeper(linux={"cgroupsPath": path, "resources": {"pids": {"limit": 11}}})
    files = [Path(hierarchy.mount_point + path, "pids.max") for hierarchy in read_host().hierarchies]
    assert [file.read_text() for file in files if file.exists()] == ["11\n"]
    lab.runtime.delete_container("p1", force=True)
    for hierarchy in read_host().hierarchies:
        os.rmdir(hierarchy.mount_point + os.path.dirname(path))


@pytest.mark.conformance(38)
def test_memory(lab: Lab) -> None:
    lab.create(["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], stdio=StdioOptions(),
               **with_resources(memory={"limit": 16 * MIB}))
    assert setting("memory", "memory.limit_in_bytes", "memory.max") == str(16 * MIB)
    lab.runtime.start_container("p1")
    state = lab.runtime.wait_on_container("p1")
    assert (state.exit_code, state.signal) == (137, 9)
    assert counters(cgroup_file("memory", "memory.oom_control", "memory.events"))["oom_kill"] == 1


@pytest.mark.conformance(38)
@pytest.mark.parametrize(("memory", "v1", "v2"), [
    ({"limit": 64 * MIB, "swap": 96 * MIB}, (64 * MIB, 96 * MIB), (64 * MIB, 32 * MIB)),
    ({"limit": 64 * MIB, "swap": 64 * MIB}, (64 * MIB, 64 * MIB), (64 * MIB, 0)),
    ({"limit": 64 * MIB, "swap": -1}, (64 * MIB, UNLIMITED_V1), (64 * MIB, "max")),
    ({"limit": 64 * MIB}, (64 * MIB, UNLIMITED_V1), (64 * MIB, "max")),
    ({"limit": -1, "swap": -1}, (UNLIMITED_V1, UNLIMITED_V1), ("max", "max")),
    ({"swap": -1}, (UNLIMITED_V1, UNLIMITED_V1), ("max", "max")),
    ({"limit": 0, "swap": 0, "reservation": 0}, (UNLIMITED_V1, UNLIMITED_V1), ("max", "max")),
])
def test_swap(lab: Lab, memory: dict[str, int], v1: tuple[int, int], v2: tuple[int | str, int | str]) -> None:
    lab.sleeper(**with_resources(memory=memory))
    seen = (setting("memory", "memory.limit_in_bytes", "memory.max"),
            setting("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"))
    assert seen == tuple(map(str, v2 if is_unified() else v1))


@pytest.mark.conformance(38)
def test_swap_without_a_limit(lab: Lab) -> None:
    """v1 keeps memory at or below the sum, v2 has no sum."""
    with pytest.raises((UnsupportedFieldError, SetupError)) as raised:
        lab.create(["true"], **with_resources(memory={"swap": 64 * MIB}))
    assert raised.value.json_path == "$.linux.resources.memory.swap"
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(38)
def test_memory_reservation(lab: Lab) -> None:
    lab.sleeper(**with_resources(memory={"reservation": 8 * MIB}))
    assert setting("memory", "memory.soft_limit_in_bytes", "memory.low") == str(8 * MIB)


@pytest.mark.conformance(38)
@pytest.mark.parametrize(("memory", "field", "file", "expected"), [
    ({"swappiness": 17}, "swappiness", "memory.swappiness", ["17"]),
    ({"swappiness": 0}, "swappiness", "memory.swappiness", ["0"]),
    ({"disableOOMKiller": True}, "disableOOMKiller", "memory.oom_control", ["oom_kill_disable", "1"]),
    ({"kernelTCP": 8 * MIB}, "kernelTCP", "memory.kmem.tcp.limit_in_bytes", [str(8 * MIB)]),
    ({"kernelTCP": -1}, "kernelTCP", "memory.kmem.tcp.limit_in_bytes", [str(UNLIMITED_V1)]),
])
def test_memory_settings_of_v1(lab: Lab, memory: dict[str, Any], field: str, file: str, expected: list[str]) -> None:
    """v2 has no such settings, and says so, unless it is no limit that is asked for."""
    if is_unified() and -1 in memory.values():
        lab.sleeper(**with_resources(memory=memory))
    elif is_unified():
        with pytest.raises(UnsupportedFieldError) as raised:
            lab.create(["true"], **with_resources(memory=memory))
        assert raised.value.json_path == f"$.linux.resources.memory.{field}"
    else:
        lab.sleeper(**with_resources(memory=memory))
        assert cgroup_file("memory", file, "").read_text().split()[:len(expected)] == expected


@pytest.mark.conformance(38)
def test_oom_killer_is_on_by_default(lab: Lab) -> None:
    lab.sleeper(**with_resources(memory={"disableOOMKiller": False, "limit": 64 * MIB}))
    if not is_unified():
        assert counters(cgroup_file("memory", "memory.oom_control", ""))["oom_kill_disable"] == 0
    assert setting("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)


@pytest.mark.conformance(38)
def test_oom_killer_is_on_where_that_is_stated(lab: Lab) -> None:
    """On v1 also below a cgroup that has none, and for a container that had none until then."""
    path, said = "/pyruntime-oom/p1", {"resources": {"memory": {"disableOOMKiller": False}}}
    if is_unified():  # where it always is
        lab.sleeper(linux=said)
        lab.runtime.update_container("p1", said["resources"])
        return
    above = cgroups_of(read_host(), "/pyruntime-oom")
    try:
        lab.run("true", linux={"cgroupsPath": path})
        (memory,) = (Path(cgroup.path) for cgroup in above if "memory" in cgroup.controllers)
        (memory / "memory.oom_control").write_text("1")
        for linux, disabled in (({}, 1), (said, 0)):
            lab.sleeper(linux={"cgroupsPath": path, **linux})
            assert counters(memory / "p1/memory.oom_control")["oom_kill_disable"] == disabled
            lab.runtime.update_container("p1", {"memory": {"disableOOMKiller": not disabled}})
            assert counters(memory / "p1/memory.oom_control")["oom_kill_disable"] == (not disabled)
            lab.delete_all()
    finally:
        lab.delete_all()
        for cgroup in above:
            os.rmdir(cgroup.path)


def test_peak_memory_of_the_container(lab: Lab) -> None:
    """That of all processes together, from the cgroup."""
    text, state = lab.run_state("dd if=/dev/zero of=/dev/shm/f bs=1M count=24 2>/dev/null; echo done")
    assert text == "done\n"
    assert state.peak_memory_bytes is not None
    peak = 24 * MIB
    lab.create("dd if=/dev/zero of=/dev/shm/f bs=1M count=24 2>/dev/null; read x", stdio=StdioOptions(True, True))
    lab.runtime.start_container("p1")
    pipes = lab.runtime.get_stdio_pipes("p1", lab.runtime.get_init_pid("p1"))
    assert pipes.in_ is not None
    pipes.in_.close()
    lab.runtime.wait_on_container("p1")
    names = ("memory.max_usage_in_bytes", "memory.peak")
    assert int(setting("memory", *names)) >= peak


@pytest.mark.conformance(44)
def test_pids(lab: Lab) -> None:
    pid = lab.create("exec 2>&1; for i in 1 2 3 4; do sleep 9 & done; echo all", **with_resources(pids={"limit": 4}))
    assert setting("pids", "pids.max", "pids.max") == "4"
    lab.runtime.start_container("p1")
    out = lab.read("p1", pid)
    assert "Resource temporarily unavailable" in out and "all" not in out
    assert counters(cgroup_file("pids", "pids.events", "pids.events"))["max"] >= 1


@pytest.mark.conformance(44)
@pytest.mark.parametrize(("limit", "expected"), [(-1, "max"), (77, "77")])
def test_pids_values(lab: Lab, limit: int, expected: str) -> None:
    lab.sleeper(**with_resources(pids={"limit": limit}))
    assert setting("pids", "pids.max", "pids.max") == expected


@pytest.mark.parametrize("how", ["init", "exec"])
def test_forks_up_to_the_limit(lab: Lab, how: str) -> None:
    """fork() says EAGAIN where the limit is reached, and not before."""
    script = "exec 2>&1; for i in one two three four; do sleep 9 >/dev/null 2>&1 & echo $i; done"
    limit = {"resources": {"pids": {"limit": 3 if how == "init" else 4}}}
    if how == "init":
        out = lab.run(script, linux=limit)
    else:
        lab.sleeper(linux=limit)
        out = lab.exec(script)
    # the shell and two sleepers are three
    assert out.split()[:2] == ["one", "two"] and "three" not in out
    assert os.strerror(errno.EAGAIN) in out
    if how == "exec":
        assert counters(cgroup_file("pids", "pids.events", "pids.events"))["max"] > 0


@pytest.mark.conformance(40)
def test_cpu_quota(lab: Lab) -> None:
    lab.sleeper(**with_resources(cpu={"quota": 5000, "period": 100000}))
    lab.exec("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    assert counters(cgroup_file("cpu", "cpu.stat", "cpu.stat"))["nr_throttled"] > 0
    assert setting("cpu", "cpu.cfs_quota_us", "cpu.max") == ("5000 100000" if is_unified() else "5000")


@pytest.mark.conformance(40)
@pytest.mark.parametrize(("cpu", "v1_file", "v1", "v2_file", "v2"), [
    ({"quota": -1}, "cpu.cfs_quota_us", "-1", "cpu.max", "max 100000"),
    ({"period": 50000}, "cpu.cfs_period_us", "50000", "cpu.max", "max 50000"),
    ({"quota": 20000}, "cpu.cfs_quota_us", "20000", "cpu.max", "20000 100000"),
    ({"quota": 20000, "burst": 3000}, "cpu.cfs_burst_us", "3000", "cpu.max.burst", "3000"),
    ({"shares": 1024}, "cpu.shares", "1024", "cpu.weight", "100"),
    ({"shares": 2}, "cpu.shares", "2", "cpu.weight", "1"),
    ({"shares": 262144}, "cpu.shares", "262144", "cpu.weight", "10000"),
    ({"shares": 0, "idle": 1}, "cpu.idle", "1", "cpu.idle", "1"),
])
def test_cpu_values(lab: Lab, cpu: dict[str, int], v1_file: str, v1: str, v2_file: str, v2: str) -> None:
    lab.sleeper(**with_resources(cpu=cpu))
    assert setting("cpu", v1_file, v2_file) == (v2 if is_unified() else v1)


@pytest.mark.conformance(40)
def test_shares_beside_idle(lab: Lab) -> None:
    """v1 would forget them, v2 refuses them."""
    with pytest.raises(UnsupportedFieldError) as raised:
        lab.create(["true"], **with_resources(cpu={"shares": 512, "idle": 1}))
    assert raised.value.json_path == "$.linux.resources.cpu.shares"


@pytest.mark.conformance(40)
def test_cpuset(lab: Lab) -> None:
    last = max(os.sched_getaffinity(0))
    lab.create("grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status; nproc; read x", stdio=StdioOptions(True, True),
               **with_resources(cpu={"cpus": str(last), "mems": "0"}))
    pid = lab.runtime.get_init_pid("p1")
    assert os.sched_getaffinity(pid) == {last}
    lab.runtime.start_container("p1")
    pipes = lab.runtime.get_stdio_pipes("p1", pid)
    assert pipes.in_ is not None
    pipes.in_.close()
    assert lab.read("p1", pid).split() == ["Cpus_allowed_list:", str(last), "Mems_allowed_list:", "0", "1"]
    assert setting("cpuset", "cpuset.cpus", "cpuset.cpus") == str(last)


@pytest.mark.conformance(46)
def test_unified(lab: Lab) -> None:
    """What every v2 cgroup has is there on a hybrid host too; controllers' files are where v2 has the controllers."""
    values = {"cgroup.max.descendants": "3"}
    if is_unified():
        values |= {"memory.high": str(32 * MIB), "pids.max": "9", "cpu.weight": "42", "memory.oom.group": "1"}
    lab.sleeper(linux={"resources": {"pids": {"limit": 5}, "unified": values}})
    directory = next(Path(hierarchy.mount_point, "pyruntime/p1") for hierarchy in read_host().hierarchies if hierarchy.is_v2)
    assert {name: (directory / name).read_text().strip() for name in values} == values


@pytest.mark.conformance(46)
@pytest.mark.parametrize("file", ["memory.absent", "absent.max", "cgroup.max.absent"])
def test_unified_of_what_v2_lacks_is_refused(lab: Lab, file: str) -> None:
    with pytest.raises((SetupError, UnsupportedFieldError)) as raised:
        lab.create(["true"], linux={"resources": {"unified": {file: "1"}}})
    assert raised.value.json_path == f'$.linux.resources.unified["{file}"]'
    assert "has no such file" in str(raised.value)
    assert not lab.runtime.container_exists("p1")


def test_value_that_the_kernel_refuses(lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create(["true"], **with_resources(cpu={"cpus": "4000"}))
    assert raised.value.json_path == "$.linux.resources.cpu.cpus"
    assert raised.value.path is not None and raised.value.path.endswith("/pyruntime/p1/cpuset.cpus")


def test_freezer(lab: Lab) -> None:
    """A paused container does not answer, a resumed one does."""
    pid = lab.create(["/bin/cat"], stdio=StdioOptions(True, True))
    lab.runtime.start_container("p1")
    pipes = lab.runtime.get_stdio_pipes("p1", pid)
    assert pipes.in_ is not None and pipes.out is not None
    os.write(pipes.in_.fileno(), b"first\n")
    assert os.read(pipes.out.fileno(), 100) == b"first\n"
    other = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    for word in (b"once\n", b"again\n"):
        lab.runtime.pause_container("p1")
        assert setting("freezer", "freezer.state", "cgroup.freeze") == ("1" if is_unified() else "FROZEN")
        if is_unified():
            assert counters(cgroup_file("freezer", "", "cgroup.events"))["frozen"] == 1
        os.write(pipes.in_.fileno(), word)
        assert select.select([pipes.out], [], [], 0.2)[0] == []
        lab.runtime.resume_container("p1")
        assert os.read(pipes.out.fileno(), 100) == word
    lab.runtime.pause_container("p1")
    lab.runtime.delete_container("p1", force=True)
    assert not os.path.exists(f"/proc/{pid}") and not os.path.exists(f"/proc/{other}")


def test_frozen_container_that_is_killed(lab: Lab) -> None:
    lab.sleeper()
    lab.runtime.pause_container("p1")
    lab.runtime.kill_container("p1", 9)
    with contextlib.suppress(NotPausedError):  # v1 keeps the signal until it is thawed, v2 does not
        lab.runtime.resume_container("p1")
    assert lab.runtime.wait_on_container("p1").exit_code == 137
    lab.runtime.delete_container("p1")


DEVICES = "for d in null zero full; do (head -c1 /dev/$d >/dev/null 2>&1 && echo $d r); done; (echo >/dev/zero) && echo zero w"


@pytest.mark.conformance(37)
@pytest.mark.parametrize(("rules", "expected"), [
    ((), []),
    (DEFAULT_RULES, ["null r", "zero r", "full r", "zero w"]),
    ((*DEFAULT_RULES, Rule(False, "c", 1, 5, "w")), ["null r", "zero r", "full r"]),
    ((*DEFAULT_RULES, Rule(False, "c", 1, None, "r")), ["zero w"]),
    ((Rule(False, "a", None, None, "rwm"), Rule(True, "c", 1, 5, "r"), Rule(True, "c", 1, 3, "w")), ["zero r"]),
    ((*DEFAULT_RULES, Rule(False, "a", None, None, "rwm"), Rule(True, "c", 1, None, "rw")), ["null r", "zero r", "full r",
                                                                                          "zero w"]),
])
def test_device_program_in_the_kernel(lab: Lab, rules: tuple[Rule, ...], expected: list[str]) -> None:
    """The verifier takes the program and the kernel executes it as the rules say, whatever the version of the devices controller."""
    unified = next(hierarchy.mount_point for hierarchy in read_host().hierarchies if hierarchy.is_v2)
    path, cgroup, program = f"{unified}/pyruntime/p-devices".encode(), Slot("host", 0), device_program(rules)
    script = DEVICES.replace("head", "/usr/bin/head").replace("2>&1", "2>/dev/null")
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    plan = Plan((op.MakeCgroup("", path, len(unified)), op.AttachDeviceProgram("", path, program, len(program)),
                 op.OpenCgroup("", path, cgroup)), (), (op.ExecuteProgram("", (b"/bin/sh", b"-c", script.encode()), (
                     b"PATH=/bin:/usr/bin",)),), 0, cgroup, 1, 0)
    try:
        spawned = native.spawn(encode(plan), "p1", (null, write, null))
        spawned.follow(native.MESSAGE_EXECUTING)
        os.close(write)
        with open(read, closefd=False) as out:
            assert out.read().splitlines() == expected
        spawned.discard()
    finally:
        os.close(null)
        os.close(read)
        os.rmdir(path)


def test_what_sets_an_exec_up_does_not_count_when_it_runs(lab: Lab) -> None:
    """Init, the program, and one that the program makes: the limit is met, not exceeded, each time."""
    lab.sleeper(**with_resources(pids={"limit": 3}))
    for _ in range(50):
        assert lab.exec("/bin/busybox true & wait $!; echo $?") == "0\n"
