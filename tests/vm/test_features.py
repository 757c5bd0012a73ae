"""What Debian's kernel with cgroup v2 has, and the kernel below a user's machine may have not."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from lab import MAPS, NAMESPACES, Lab, cgroup_file, is_unified, namespaces

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.cgroups import cgroups_of
from pyruntime.errors import SetupError, UnsupportedHostError
from pyruntime.host import Hierarchy, Host
from pyruntime.native.host_plan import run_host_operations
from pyruntime.plan.resources import resource_writes
from pyruntime.spec import decode_resources
from pyruntime.testing.bundles import default_config

DISK = Path("/dev/vda")
MIB = 1 << 20


def test_every_controller_is_on_v2() -> None:
    assert is_unified()
    controllers = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    assert controllers >= {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}


def test_the_init_joins_its_cgroup(lab: Lab) -> None:
    """By itself, when it has memory of its own: what a limit of memory ends must not be the caller."""
    pid = lab.sleeper()
    assert Path(f"/proc/{pid}/cgroup").read_text() == "0::/pyruntime/p1\n"
    assert str(pid) in cgroup_file("", "", "cgroup.procs").read_text().split()


@pytest.mark.conformance(34)
def test_the_init_is_cloned_into_its_cgroup(lab: Lab) -> None:
    """It writes to no cgroup.procs, which would take the kernel's global lock."""
    def created() -> int:
        return lab.sleeper()

    pid = Fault("write", "EPERM", {2: 1}).during(created)
    assert Path(f"/proc/{pid}/cgroup").read_text() == "0::/pyruntime/p1\n"
    assert cgroup_file("", "", "cgroup.procs").read_text().split() == [str(pid)]


def test_cgroup_kill_ends_what_forks_meanwhile(lab: Lab) -> None:
    """By one write, also with a process that is faster than whoever reads cgroup.procs."""
    kill = cgroup_file("", "", "cgroup.kill")
    lab.create("f() { f & }; f & f & f & exec sleep 1000", stdio=StdioOptions(),
               linux={"namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts", "network", "cgroup")],
                      "resources": {"pids": {"limit": 60}}})
    lab.runtime.start_container("p1")
    assert kill.exists()
    lab.runtime.delete_container("p1", force=True)
    assert not kill.parent.exists()


def test_memory_events_tell_of_an_oom_kill(lab: Lab) -> None:
    events = cgroup_file("memory", "", "memory.events")
    lab.create("tail /dev/zero", linux={"resources": {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}})
    lab.runtime.start_container("p1")
    state = lab.runtime.wait_on_container("p1")
    counted = dict(line.split() for line in events.read_text().splitlines())
    assert state.signal == signal.SIGKILL or state.exit_code == 128 + signal.SIGKILL
    assert int(counted["oom_kill"]) >= 1 and int(counted["max"]) >= 1


CALLER = """
import sys
from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import SetupError
root, bundle = sys.argv[1:]
runtime = NativeRuntime(root)
for i in range(100):
    try:
        if bundle:
            runtime.create_container("p2", bundle, StdioOptions())
            runtime.delete_container("p2", force=True)
        else:
            pid = runtime.exec_process("p1", {"args": ["/bin/true"], "cwd": "/"}, StdioOptions())
            runtime.wait_on_process("p1", pid)
            runtime.delete_process("p1", pid)
    except SetupError:
        pass
"""


def end_of_caller(lab: Lab, bundle: str = "") -> tuple[int, str]:
    """Of one that creates containers of a bundle, or executes something in p1."""
    done = subprocess.run([sys.executable, "-c", CALLER, str(lab.root), bundle], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_container_out_of_memory_does_not_end_who_executes_in_it(lab: Lab) -> None:
    """The kernel kills all that share the memory of what it chooses, which the child and the caller do until it executes the init."""
    lab.create("for i in 1 2 3; do (while :; do tail /dev/zero; done) & done; sleep 1000", stdio=StdioOptions(),
               linux={"resources": {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}})
    lab.runtime.start_container("p1")
    assert end_of_caller(lab) == (0, "")


def test_a_limit_that_is_too_low_does_not_end_who_creates(lab: Lab) -> None:
    assert end_of_caller(lab, lab.bundle("true", linux={"resources": {"memory": {"limit": 4096}}})) == (0, "")


def disk() -> tuple[dict[str, int], str]:
    """Its numbers, and the name that they are to the kernel."""
    status = DISK.stat()
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return {"major": major, "minor": minor}, f"{major}:{minor}"


@pytest.mark.conformance(41, 46)
@pytest.mark.parametrize(("field", "rate"), [("unified", MIB), ("throttleReadBpsDevice", MIB), ("throttleReadIOPSDevice", 16),
                                             ("throttleWriteBpsDevice", MIB), ("throttleWriteIOPSDevice", 16)])
def test_io_limit_binds_on_a_block_device(lab: Lab, field: str, rate: int) -> None:
    """4 MiB, in 64 pieces."""
    device, name = disk()
    limit: dict[str, Any] = {"blockIO": {field: [{**device, "rate": rate}]}}
    if field == "unified":
        limit = {"unified": {"io.max": f"{name} rbps={rate}"}}
    files = "if=/dev/zero of=/dev/disk oflag=direct" if "Write" in field else "if=/dev/disk of=/dev/null iflag=direct"
    rule = {"allow": True, "type": "b", "access": "rw", **device}

    def seconds(id: str, **resources: Any) -> float:
        lab.create(f"dd {files} bs=65536 count=64 2>/dev/null; echo done; exec sleep 1000", id,
                   linux={"devices": [{"path": "/dev/disk", "type": "b", **device}], "resources": {"devices": [rule], **resources}})
        begin = time.monotonic()
        lab.runtime.start_container(id)
        out = lab.runtime.get_stdio_pipes(id, lab.runtime.get_init_pid(id)).out
        assert out is not None and os.read(out.fileno(), 100) == b"done\n"
        return time.monotonic() - begin

    free = seconds("p1")
    limited = seconds("p2", **limit)
    assert cgroup_file("io", "", "io.max", "p2").read_text().startswith(f"{name} ")
    assert limited > 2.5 > free, (free, limited)


@pytest.mark.conformance(41)
def test_io_weights(lab: Lab) -> None:
    """Of io.cost, and of the BFQ scheduler once the kernel has it."""
    device, name = disk()
    Path("/sys/fs/cgroup/io.cost.qos").write_text(f"{name} enable=1")
    weights = {"blockIO": {"weight": 500, "weightDevice": [{**device, "weight": 300}]}}
    lab.sleeper(linux={"resources": weights})
    assert cgroup_file("io", "", "io.weight").read_text().splitlines() == ["default 4950", f"{name} 2930"]
    lab.runtime.update_container("p1", {"blockIO": {"weight": 10}})
    assert cgroup_file("io", "", "io.weight").read_text().splitlines() == ["default 1", f"{name} 2930"]
    lab.delete_all()
    scheduler = Path("/sys/block", DISK.name, "queue/scheduler")
    before = re.search(r"\[(.*)\]", scheduler.read_text())
    assert before is not None
    subprocess.run(["modprobe", "bfq"], check=True)
    scheduler.write_text("bfq")
    try:
        lab.sleeper(linux={"resources": weights})
        assert cgroup_file("io", "", "io.bfq.weight").read_text().splitlines() == ["default 500", f"{name} 300"]
        assert cgroup_file("io", "", "io.weight").read_text().splitlines() == ["default 100"]
        with pytest.raises(SetupError) as raised:
            lab.runtime.update_container("p1", {"blockIO": {"weight": 1001}})
        assert (raised.value.errno_name, raised.value.json_path) == ("ERANGE", "$.blockIO.weight")
        assert cgroup_file("io", "", "io.bfq.weight").read_text().splitlines() == ["default 500", f"{name} 300"]
    finally:
        lab.delete_all()
        scheduler.write_text(before[1])


# written one after another
SAID_AGAIN = [
    ("io.weight", "200", "default 200"), ("io.weight", "DISK 300", "DISK 300"), ("io.weight", "DISK default", "default 200"),
    ("io.latency", "DISK target=75000", "DISK target=75000"), ("io.latency", "DISK target=80000\nDISK target=0", ""),
    ("io.max", "DISK rbps=9\nDISK rbps=max", ""), ("io.max", "DISK rbps=1048576 wiops=9", "DISK rbps=1048576 wbps=max riops=max wiops=9"),
    ("io.max", "DISK rbps=max", "DISK rbps=max wbps=max riops=max wiops=9"), ("io.prio.class", "restrict-to-be", "restrict-to-be"),
    ("cpu.weight", "0x63", "99"), ("cpu.weight.nice", "-5", "-5"), ("cpu.uclamp.max", "33.3", "33.30"), ("cpu.max", "050000", "50000 100000"),
    ("cpuset.cpus", "0-1:1/2", "0"), ("cpuset.cpus", "0-N", "0-1"), ("cpuset.cpus", "all", "0-1"),
    ("memory.high", "0x2001K", str(8 << 20)), ("memory.zswap.writeback", "0", "0"), ("cgroup.max.depth", "07", "7"),
    ("cgroup.pressure", "0", "0"),
]


@pytest.mark.conformance(46)
def test_unified_as_the_kernel_says_it_again(lab: Lab) -> None:
    """All of this holds; where this kernel has no such file, that is the error."""
    _, name = disk()
    Path("/sys/fs/cgroup/io.cost.qos").write_text(f"{name} enable=1")  # without it no device has a weight
    lab.sleeper(linux={"resources": {"unified": {"cpuset.cpus": ""}}})
    assert cgroup_file("", "", "cpuset.cpus").read_text() == "\n"
    for file, text, found in SAID_AGAIN:
        path = cgroup_file("", "", file)
        if not path.exists():
            with pytest.raises(SetupError, match="has no such file"):
                lab.runtime.update_container("p1", {"unified": {file: text}})
            continue
        lab.runtime.update_container("p1", {"unified": {file: text.replace("DISK", name)}})
        lines = path.read_text().splitlines() or [""]
        assert found.replace("DISK", name) in lines, (file, text, lines)


@pytest.mark.conformance(46)
def test_unified_that_does_not_hold(lab: Lab) -> None:
    """The kernel takes a partition that there cannot be, and says so only when it is asked."""
    with pytest.raises(SetupError) as raised:
        lab.sleeper(linux={"resources": {"unified": {"cpuset.cpus": "0", "cpuset.cpus.partition": "isolated"}}})
    assert (raised.value.errno, raised.value.json_path) == (0, '$.linux.resources.unified["cpuset.cpus.partition"]')
    assert "'isolated' was wanted, but 'isolated invalid" in str(raised.value)
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(45, 46)
@pytest.mark.parametrize(("resources", "json_path", "error"), [
    ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, '$.linux.resources.rdma["mlx5_1"]', "ENODEV"),
    ({"unified": {"misc.max": "nothing 1"}}, '$.linux.resources.unified["misc.max"]', "EINVAL"),
])
def test_a_controller_that_is_asked_for_is_passed_on(lab: Lab, resources: dict[str, Any], json_path: str, error: str) -> None:
    """The file is there, and the kernel says that it has no such device."""
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"resources": resources})
    assert (raised.value.errno_name, raised.value.json_path) == (error, json_path)
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(43)
def test_network_on_v1(tmp_path: Path) -> None:
    """This kernel has the controllers: what is written is what it then says."""
    subprocess.run(["mount", "-t", "cgroup", "-o", "net_cls,net_prio", "cgroup", str(tmp_path)], check=True)
    (tmp_path / "c").mkdir()
    try:
        cgroups = cgroups_of(Host((6, 1), (Hierarchy(str(tmp_path), False, ("net_cls", "net_prio")),), 0), "/c")
        network = {"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 500}]}}
        assert run_host_operations(list(resource_writes(cgroups, decode_resources(network), 4096))) is None
        assert (tmp_path / "c/net_cls.classid").read_text() == "1048577\n"
        assert "lo 500\n" in (tmp_path / "c/net_prio.ifpriomap").read_text()
        network["network"]["priorities"] = [{"name": "eth77", "priority": 1}]
        failed = run_host_operations(list(resource_writes(cgroups, decode_resources(network), 4096)))
        assert failed is not None and (failed.index, failed.errno) == (1, errno.ENODEV)
    finally:
        (tmp_path / "c").rmdir()
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_pressure_is_told_for_each_container(lab: Lab) -> None:
    """PSI: some processor time is waited for where two share half of one."""
    lab.create("while :; do :; done & while :; do :; done", stdio=StdioOptions(),
               linux={"resources": {"cpu": {"quota": 50000, "period": 100000}}})
    lab.runtime.start_container("p1")
    pressure = cgroup_file("cpu", "", "cpu.pressure")
    with pressure.open("r+b", buffering=0) as trigger:
        trigger.write(b"some 50000 1000000\0")  # microseconds of waiting, in how many
        poll = select.poll()
        poll.register(trigger, select.POLLPRI)
        assert poll.poll(30_000) == [(trigger.fileno(), select.POLLPRI)]
    found = re.search(r"some .* total=(\d+)", pressure.read_text())
    assert found is not None and int(found[1]) >= 50000


PROFILE = """
profile pyruntime-test flags=(attach_disconnected) {
  file,
  capability,
  signal,
  deny /etc/passwd r,
}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "profile"
    file.write_text(PROFILE)
    subprocess.run(["apparmor_parser", "-K", "-r", str(file)], check=True)
    yield "pyruntime-test"
    subprocess.run(["apparmor_parser", "-K", "-R", str(file)], check=True)


def current_profile(pid: int) -> str:
    return Path(f"/proc/{pid}/attr/apparmor/current").read_text().rstrip("\n")


CURRENT = "cat /proc/self/attr/apparmor/current; cat /etc/passwd 2>&1 | tail -n1"


@pytest.mark.conformance(18)
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_apparmor_profile_is_enforced(lab: Lab, profile: str, no_new_privileges: bool) -> None:
    """On the container's program, and on what is executed in it without a profile of its own."""
    assert lab.run(CURRENT).splitlines()[0] == "unconfined"
    process = {"apparmorProfile": profile, "noNewPrivileges": no_new_privileges}
    confined = [f"{profile} (enforce)", "cat: can't open '/etc/passwd': Permission denied"]
    assert lab.run(CURRENT, process=process).splitlines() == confined
    lab.sleeper(process=process)
    assert lab.exec(CURRENT).splitlines() == confined
    assert lab.exec(CURRENT, apparmorProfile="unconfined", user={"uid": 1000, "gid": 1000}).splitlines()[0] == "unconfined"
    other = NativeRuntime(str(lab.root))
    pid = other.exec_process("p1", {"args": ["/bin/sleep", "100"], "cwd": "/"}, StdioOptions())
    assert current_profile(pid) == f"{profile} (enforce)"
    other.kill_process("p1", pid, signal.SIGKILL)
    other.wait_on_process("p1", pid)
    other.delete_process("p1", pid)


@pytest.mark.conformance(18)
def test_apparmor_in_every_kind_of_namespace(reachable: Lab, profile: str) -> None:
    mounts = [mount for mount in default_config()["mounts"] if mount["type"] not in ("sysfs", "cgroup")]
    for kinds in (NAMESPACES, ("mount",), (*NAMESPACES, "user")):
        out = reachable.run("cat /proc/self/attr/apparmor/current", process={"apparmorProfile": profile}, mounts=mounts,
                            hostname="h" if "uts" in kinds else None,
                            linux={"namespaces": namespaces(*kinds), **(MAPS if "user" in kinds else {})})
        assert out == f"{profile} (enforce)\n", kinds


@pytest.mark.conformance(18)
def test_a_profile_that_is_not_loaded(lab: Lab, profile: str) -> None:
    with pytest.raises(SetupError) as caught:
        lab.create("true", process={"apparmorProfile": "pyruntime-missing"})
    assert (caught.value.path, caught.value.errno_name, caught.value.json_path, caught.value.detail) == (
        "pyruntime-missing", "ENOENT", "$.process.apparmorProfile", "no such profile is loaded")
    lab.sleeper()
    with pytest.raises(SetupError) as caught:
        lab.exec("true", apparmorProfile="pyruntime-missing")
    assert (caught.value.path, caught.value.json_path) == ("pyruntime-missing", "$.apparmorProfile")


@pytest.mark.conformance(18)
def test_an_image_cannot_take_the_profile(lab: Lab, profile: str) -> None:
    """What it shows at /proc is not where the profile is written to (CVE-2019-16884)."""
    attributes = lab.rootfs / "proc" / "self" / "attr" / "apparmor"
    attributes.mkdir(parents=True)
    (attributes / "exec").write_text("")
    pid = lab.sleeper(mounts=[], process={"apparmorProfile": profile}, linux={"maskedPaths": [], "readonlyPaths": []},
                      root={"readonly": False})
    assert (attributes / "exec").read_text() == ""
    assert current_profile(pid) == f"{profile} (enforce)"


def test_the_systemd_driver_needs_systemd(lab: Lab) -> None:
    if os.path.isdir("/run/systemd/system") and Path("/proc/1/comm").read_text() == "systemd\n":
        assert isinstance(NativeRuntime(str(lab.root), systemd_cgroup=True), NativeRuntime)
        return
    with pytest.raises(UnsupportedHostError, match="systemd"):
        NativeRuntime(str(lab.root), systemd_cgroup=True)
