"""Limits that are seen to bind, that are said not to hold, and what is said of a container that they end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, cgroup_file, is_unified
from probing import Probe

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.cgroups import cgroups_of
from pyruntime.errors import NotRunningError, SetupError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host, read_host
from pyruntime.native.host_plan import Failed, run_host_operations
from pyruntime.plan import flags
from pyruntime.plan.operations import WriteFile
from pyruntime.plan.resources import resource_writes
from pyruntime.spec import decode_resources

MIB = 1 << 20
SMALL = {"resources": {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}}
LARGE = {"resources": {"memory": {"limit": 512 * MIB, "swap": 512 * MIB}}}
EATS = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


# memory


@pytest.mark.conformance(38)
@pytest.mark.parametrize(("limit", "args", "expected"), [
    (SMALL, EATS, (137, 9, True)), (SMALL, ["/bin/true"], (0, None, False)), (LARGE, EATS, (0, None, False)), ({}, EATS, (0, None, None)),
    (SMALL, ["/bin/sh", "-c", f"{' '.join(EATS)} 2>/dev/null; exit 3"], (3, None, True)),
])
def test_what_init_says_of_want_of_memory(lab: Lab, limit: dict[str, Any], args: list[str],
                                          expected: tuple[int, int | None, bool | None]) -> None:
    """It ended because of it, or some process of the container did; nothing is known without a limit."""
    lab.create(args, stdio=StdioOptions(), linux=limit)
    lab.runtime.start_container("p1")
    for runtime in (lab.runtime, lab.runtime, NativeRuntime(str(lab.root))):
        state = runtime.wait_on_container("p1")
        assert (state.exit_code, state.signal, state.oom_killed) == expected


@pytest.mark.conformance(38)
def test_what_an_exec_says_of_want_of_memory(lab: Lab) -> None:
    """One that has killed itself before is not the kernel's."""
    lab.sleeper(linux=SMALL)

    def said(args: list[str]) -> tuple[int, bool | None]:
        pid = lab.runtime.exec_process("p1", {"args": args, "cwd": "/"}, StdioOptions())
        states = [runtime.wait_on_process("p1", pid) for runtime in (lab.runtime, NativeRuntime(str(lab.root)))]
        assert states[0] == states[1]
        return states[0].exit_code, states[0].oom_killed

    assert said(["/bin/sh", "-c", "kill -9 $$"]) == (137, False)
    assert said(EATS) == (137, True)
    assert said(["/bin/true"]) == (0, False)


@pytest.mark.conformance(38)
def test_a_limit_that_came_later(lab: Lab) -> None:
    lab.sleeper()
    lab.runtime.update_container("p1", SMALL["resources"])
    pid = lab.runtime.exec_process("p1", {"args": EATS, "cwd": "/"}, StdioOptions())
    assert lab.runtime.wait_on_process("p1", pid).oom_killed is True
    lab.runtime.kill_container("p1", 9)
    assert NativeRuntime(str(lab.root)).wait_on_container("p1").oom_killed is True


def in_use(lab: Lab) -> int:
    """Bytes that container p1 holds, in a file of its /dev/shm."""
    lab.sleeper(linux={"resources": {"memory": {"limit": 256 * MIB, "swap": 512 * MIB}}})
    lab.exec("dd if=/dev/zero of=/dev/shm/f bs=1M count=48 2>/dev/null")
    return int(cgroup_file("memory", "memory.usage_in_bytes", "memory.current").read_text())


@pytest.mark.conformance(39)
@pytest.mark.parametrize("memory", [{"limit": 8 * MIB}, {"limit": 8 * MIB, "swap": 8 * MIB}])
def test_a_limit_below_what_is_in_use_is_refused(lab: Lab, memory: dict[str, int]) -> None:
    """On v2, where it would be taken and kill, because it is asked for; on v1 always."""
    assert in_use(lab) > 40 * MIB
    before = cgroup_file("memory", "memory.limit_in_bytes", "memory.max").read_text()
    # the kernel tries to swap first, on v1: only with a limit of both it cannot
    if not is_unified():
        memory = {**memory, "swap": memory["limit"]}
    with pytest.raises(SetupError) as raised:
        lab.runtime.update_container("p1", {"memory": {**memory, "checkBeforeUpdate": True}})
    assert (raised.value.errno_name, raised.value.step) == ("EBUSY", "update")
    assert raised.value.json_path is not None and raised.value.json_path.startswith("$.memory.")
    assert cgroup_file("memory", "memory.limit_in_bytes", "memory.max").read_text() == before
    # one that is above is none of those
    lab.runtime.update_container("p1", {"memory": {"limit": 128 * MIB, "swap": 256 * MIB, "checkBeforeUpdate": True}})
    assert cgroup_file("memory", "memory.limit_in_bytes", "memory.max").read_text() == f"{128 * MIB}\n"


# processors


@pytest.mark.conformance(40)
def test_a_quota_takes_time(lab: Lab) -> None:
    """The counters say so, and so does the clock: at most a tenth of a processor."""
    lab.sleeper(linux={"resources": {"cpu": {"quota": 10000, "period": 100000}}})
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"], "cwd": "/"},
                                   StdioOptions())
    begin = time.monotonic()
    state = lab.runtime.wait_on_process("p1", pid)
    took = time.monotonic() - begin
    counters = dict(line.split() for line in cgroup_file("cpu", "cpu.stat", "cpu.stat").read_text().splitlines())
    used = (state.user_seconds or 0) + (state.system_seconds or 0)
    assert int(counters["nr_throttled"]) > 0 and used > 0.03
    assert took > 4 * used


REAL_TIME = {"realtimePeriod": 1_000_000, "realtimeRuntime": 5000}


@pytest.mark.conformance(40)
def test_real_time(lab: Lab) -> None:
    """v2 has no such limit; on v1 the cgroup above has to give it away, and where it does it is the container's."""
    parents = [Path(cgroup.path) for cgroup in cgroups_of(read_host(), "/pyruntime-rt")]
    limits = {"cgroupsPath": "/pyruntime-rt/p1", "resources": {"cpu": REAL_TIME}}
    if is_unified():
        with pytest.raises(UnsupportedFieldError) as refused:
            lab.create("true", linux=limits)
        assert refused.value.json_path == "$.linux.resources.cpu.realtimePeriod"
        return
    (cpu,) = (Path(cgroup.path) for cgroup in cgroups_of(read_host(), "/pyruntime-rt") if "cpu" in cgroup.controllers)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=limits)
    if not (cpu / "cpu.rt_runtime_us").exists():  # a kernel without CONFIG_RT_GROUP_SCHED
        assert (raised.value.errno_name, raised.value.json_path) == ("ENOENT", "$.linux.resources.cpu.realtimePeriod")
        for parent in parents:
            parent.rmdir()
        return
    assert (raised.value.errno_name, raised.value.json_path) == ("EINVAL", "$.linux.resources.cpu.realtimeRuntime")
    try:
        try:
            (cpu / "cpu.rt_runtime_us").write_text("20000")
        except OSError:
            pytest.skip("other cgroups of this host have all of its real time")
        lab.sleeper(linux=limits)
        assert (cpu / "p1/cpu.rt_runtime_us").read_text() == "5000\n"
        lab.runtime.update_container("p1", {"cpu": {"realtimePeriod": 100_000, "realtimeRuntime": 1000}})
        assert [(cpu / "p1" / name).read_text() for name in ("cpu.rt_period_us", "cpu.rt_runtime_us")] == ["100000\n", "1000\n"]
    finally:
        lab.delete_all()
        for parent in parents:
            parent.rmdir()


@pytest.fixture
def narrow(lab: Lab) -> Iterator[str]:
    """A cgroup that has the first processor alone."""
    path = "/pyruntime-narrow"
    lab.run("true", linux={"cgroupsPath": f"{path}/p1"})
    (directory,) = (Path(cgroup.path) for cgroup in cgroups_of(read_host(), path) if is_unified() or "cpuset" in cgroup.controllers)
    (directory / "cpuset.cpus").write_text("0")
    yield path
    lab.delete_all()
    for cgroup in cgroups_of(read_host(), path):
        os.rmdir(cgroup.path)


@pytest.mark.conformance(40)
@pytest.mark.parametrize("where", [{"cpu": {"cpus": "1"}}, {"unified": {"cpuset.cpus": "1"}}])
def test_processors_that_the_cgroup_above_does_not_have(lab: Lab, narrow: str, where: dict[str, Any]) -> None:
    """v2 takes the list, and lets the container have what is above."""
    if not is_unified() and "unified" in where:
        where = {"cpu": {"cpus": "0-1"}}
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"cgroupsPath": f"{narrow}/p1", "resources": where})
    path = raised.value.json_path
    assert path is not None and path.startswith("$.linux.resources.") and "cpus" in path
    assert raised.value.path is not None and raised.value.path.endswith(f"{narrow}/p1/cpuset.cpus")
    if is_unified():
        assert (raised.value.errno, raised.value.detail) == (0, "'1' was wanted, but '0' is what it has")
    else:
        assert raised.value.errno_name in ("EACCES", "EINVAL")
    assert not lab.runtime.container_exists("p1")
    lab.sleeper(linux={"cgroupsPath": f"{narrow}/p1", "resources": {"cpu": {"cpus": "0"}}})
    with pytest.raises(SetupError) as raised:
        lab.runtime.update_container("p1", where)
    assert raised.value.step == "update"
    assert (Path(raised.value.path or "").read_text()) == "0\n"


# processes


@pytest.mark.conformance(44)
def test_no_process_at_all(lab: Lab) -> None:
    """There is the container's own, which the limit does not end, and it makes no other."""
    limit = {"resources": {"pids": {"limit": 0}}}
    script = "exec 2>&1; /bin/true && echo forked; echo end"
    assert "forked" not in lab.run(script, linux=limit, ociVersion="1.3.0")
    assert cgroup_file("pids", "pids.max", "pids.max").parent.exists() is False
    # it was none before the field could be left out
    assert lab.run(script, linux=limit, ociVersion="1.2.1").split() == ["forked", "end"]


# huge pages


@pytest.fixture
def hugetlb() -> Iterator[None]:
    """The controller is mounted, also on a v1 host that has it not."""
    point = Path("/sys/fs/cgroup/hugetlb")
    if is_unified() or any("hugetlb" in hierarchy.controllers for hierarchy in read_host().hierarchies):
        yield
        return
    is_new = not point.exists()
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", str(point)], check=True)
    try:
        yield
        # what is left in a hierarchy keeps it
        (point / "pyruntime").rmdir()
    finally:
        subprocess.run(["umount", str(point)], check=True)
        if is_new:
            point.rmdir()


@pytest.fixture
def huge_pages(hugetlb: None) -> Iterator[int]:
    """How many of 2 MiB there are."""
    before = HUGE_PAGES.read_text()
    HUGE_PAGES.write_text("6")
    try:
        yield int(HUGE_PAGES.read_text())
    finally:
        HUGE_PAGES.write_text(before)


@pytest.mark.conformance(42)
def test_huge_pages(huge_pages: int, lab: Lab, probe: Probe) -> None:
    """A mapping fails that would be one too many: what is reserved is limited, and not only what is used."""
    assert huge_pages >= 4, "this host has no memory for huge pages"

    def mapped(*limits: int) -> int:
        sizes = [{"pageSize": "2MB", "limit": limit} for limit in limits]
        return probe.run("hugepages:4", linux={"resources": {"hugepageLimits": sizes}}).number("hugepages:4")

    assert (mapped(), mapped(0), mapped(2 * MIB), mapped(5 * MIB), mapped(2**64 - 1)) == (4, 0, 1, 2, 4)


@pytest.mark.conformance(42)
def test_huge_pages_while_it_runs(huge_pages: int, lab: Lab, probe: Probe) -> None:
    lab.sleeper()
    assert probe.exec("hugepages:3").number("hugepages:3") == 3
    lab.runtime.update_container("p1", {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]})
    assert probe.exec("hugepages:3").number("hugepages:3") == 1
    for kind in ("", "rsvd."):
        assert cgroup_file("hugetlb", f"hugetlb.2MB.{kind}limit_in_bytes", f"hugetlb.2MB.{kind}max").read_text() == f"{2 * MIB}\n"


@pytest.mark.conformance(42)
def test_a_size_of_pages_that_this_kernel_has_not(hugetlb: None, lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"resources": {"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}})
    assert (raised.value.errno_name, raised.value.json_path) == ("ENOENT", "$.linux.resources.hugepageLimits[0]")
    assert not lab.runtime.container_exists("p1")


# what this kernel may not have, in a tree of plain files


V1_FILES = ("blkio/blkio.bfq.weight", "blkio/blkio.bfq.weight_device", "blkio/blkio.throttle.read_bps_device", "net_cls/net_cls.classid",
            "net_prio/net_prio.ifpriomap", "rdma/rdma.max")
V2_FILES = ("io.weight", "io.max", "rdma.max", "hugetlb.2MB.max")
OTHERS = {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
                      "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
          "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}}
NETWORK = {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]}}


def tree(directory: Path, is_v2: bool, *files: str) -> Host:
    for file in files:
        controller, _, name = file.rpartition("/")
        (directory / controller / "c").mkdir(parents=True, exist_ok=True)
        (directory / controller / "c" / name).touch()
    names = sorted({file.partition("/")[0] for file in files})
    return Host((6, 1), (Hierarchy(str(directory), True),) if is_v2 else
                tuple(Hierarchy(str(directory / name), False, (name,)) for name in names), 0)


def set_in(host: Host, resources: dict[str, Any]) -> Failed | None:
    return run_host_operations(list(resource_writes(cgroups_of(host, "/c"), decode_resources(resources), 4096)))


@pytest.mark.conformance(41, 43, 45)
def test_what_is_written_on_v1(tmp_path: Path) -> None:
    host = tree(tmp_path, False, *V1_FILES)
    assert set_in(host, {**OTHERS, **NETWORK}) is None
    assert [(tmp_path / Path(file).parent / "c" / Path(file).name).read_text() for file in V1_FILES] == [
        "500", "8:0 300", "8:0 600", "1048577", "eth0 500", "mlx5_1 hca_handle=3 hca_object=10000"]


@pytest.mark.conformance(41, 42, 45)
@pytest.mark.parametrize(("weight_file", "line"), [("io.weight", "default 4950"), ("io.bfq.weight", "default 500")])
def test_what_is_written_on_v2(tmp_path: Path, weight_file: str, line: str) -> None:
    """BFQ's weight where there is one; a kernel without a limit of reservations has none to set."""
    host = tree(tmp_path, True, *V2_FILES, weight_file)
    others = {**OTHERS, "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]}}
    assert set_in(host, {**others, "hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]}) is None
    texts = {file: (tmp_path / "c" / file).read_text() for file in {*V2_FILES, weight_file}}
    assert texts == {"io.max": "8:0 rbps=600", "rdma.max": "mlx5_1 hca_handle=3 hca_object=10000", "hugetlb.2MB.max": str(2 * MIB),
                     "io.weight": "", weight_file: line}


LINES, ALONE, NOT_OTHERWISE, WITHIN = flags.CHECK_LINES, flags.CHECK_LINES_ALONE, flags.CHECK_NOT_OTHERWISE, flags.CHECK_WITHIN
CHANGED = flags.CHECK_CHANGED


@pytest.mark.parametrize(("content", "value", "check", "expected", "found"), [
    ("7777", "5", LINES, ["5"], "5777"), ("0000", "8:0 9", LINES, ["8:0 10"], "8:0 9"), ("x", "y", LINES, ["y"], None),
    ("x\n8:0 a=1 b=2\n", "y", LINES, ["8:0 b=3"], "8:0 a=1 b=2"), ("x\n8:0 a=1 b=2\n", "y", LINES, ["8:0 b"], "8:0 a=1 b=2"),
    ("x\n8:0 a=1 b=2\n", "y", LINES, ["8:0 b=2", "8:0 a=1", "y"], None), ("x\n8:0 a=1\n", "y", LINES, ["y", "8:1 a=1"], "y"),
    ("x", "0-3", WITHIN, ["0-3,7"], None), ("x", "0-3", WITHIN, ["0,2-7"], "0-3"), ("", "all", WITHIN, ["0"], "all"),
    ("", "9000", WITHIN, ["9000"], None), ("", "0,", WITHIN, ["0"], "0,"),
    ("", "isolated invalid", LINES, ["isolated"], None), ("", "isolated invalid", ALONE, ["isolated"], "isolated invalid"),
    ("x\n8:0 a=1 b=2\n", "y", ALONE, ["8:0  b=2 a=1"], None), ("", "\n", LINES, [""], None), ("0-3\n", "0", LINES, [""], "0-3"),
    ("x\n8:0 a=1\n", "y", NOT_OTHERWISE, ["8:1 a=2"], None), ("x\n8:0 a=1\n", "y", NOT_OTHERWISE, ["8:0 a=max"], "8:0 a=1"),
    ("x\n8:0 a=max b=1\n", "y", NOT_OTHERWISE, ["8:0 a=max"], None), ("", "\n", NOT_OTHERWISE, ["8:0 a=1"], None),
    ("5", "6", CHANGED, ["other"], None), ("5 7", "5", CHANGED, ["6"], "5 7"), ("5 7", "5", CHANGED, ["5"], None),
])
def test_a_file_that_says_something_else(tmp_path: Path, content: str, value: str, check: int, expected: list[str], found: str | None) -> None:
    """Than was written, as the kernel's may."""
    (tmp_path / "file").write_text(content)
    texts = tuple(text.encode() for text in (value, *expected))
    failed = run_host_operations([WriteFile("$", str(tmp_path / "file").encode(), texts, 0, len(expected), check)])
    if found is None:
        assert failed is None
    else:
        wanted = expected[-1]
        assert failed == Failed(0, 0, f"'{wanted}' was wanted, but '{found}' is what it has")


def test_a_file_that_cannot_be_read() -> None:
    """There is nothing to compare then."""
    (tmp_root,) = (cgroup.path for cgroup in cgroups_of(read_host(), "/") if cgroup.is_v2)
    # which has no printer: the kernel says EINVAL
    own = Path(tmp_root, "pyruntime-unreadable")
    own.mkdir()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            (own / "cgroup.kill").read_text()
        kill = WriteFile("$", str(own / "cgroup.kill").encode(), (b"1", b"1"), 0, 1, CHANGED)
        assert run_host_operations([kill]) is None
    finally:
        own.rmdir()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing").encode()
    assert run_host_operations([WriteFile("$", missing, (b"1",), is_optional=1)]) is None
    failed = run_host_operations([WriteFile("$", missing, (b"1",), is_optional=1), WriteFile("$", missing, (b"1",))])
    assert failed is not None and (failed.index, failed.errno) == (1, 2)
    (tmp_path / "other").touch()
    assert run_host_operations([WriteFile("$", missing, (str(tmp_path / "other").encode(), b"1"), unless=1)]) is None


# frozen cgroups


def freeze(path: str, value: bool) -> None:
    for cgroup in cgroups_of(read_host(), path):
        if is_unified() or "freezer" in cgroup.controllers:
            name, words = ("cgroup.freeze", "01") if is_unified() else ("freezer.state", ("THAWED", "FROZEN"))
            Path(cgroup.path, name).write_text(words[value])


@pytest.mark.conformance(35)
@pytest.mark.parametrize("frozen", ["/pyruntime-frozen/p1", "/pyruntime-frozen"])
def test_a_frozen_cgroup_is_refused(lab: Lab, frozen: str) -> None:
    """Itself or the one above: what is made in it would never run."""
    for cgroup in cgroups_of(read_host(), frozen):
        os.makedirs(cgroup.path)
    freeze(frozen, True)
    try:
        with pytest.raises(SetupError) as raised:
            lab.create("true", linux={"cgroupsPath": "/pyruntime-frozen/p1"})
        assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("make cgroup", "EBUSY", "$.linux.cgroupsPath")
        assert "frozen" in raised.value.detail and not lab.runtime.container_exists("p1")
        # it stays as it is
        freeze(frozen, False)
        assert lab.run("echo it runs", linux={"cgroupsPath": "/pyruntime-frozen/p1"}) == "it runs\n"
    finally:
        for cgroup in cgroups_of(read_host(), "/pyruntime-frozen"):
            os.rmdir(cgroup.path)


@pytest.mark.conformance(35)
def test_a_frozen_cgroup_takes_no_exec(lab: Lab) -> None:
    lab.sleeper()
    freeze("/pyruntime/p1", True)
    with pytest.raises(NotRunningError):
        lab.exec("true")
    lab.runtime.resume_container("p1")
    assert lab.exec("echo it runs") == "it runs\n"
