"""What every limit is as a write, and what the kernel has to say then, on v1 and v2."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pyruntime.cgroups.paths import Cgroup, cgroups_of
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.resources import limits_memory, limits_pids, make_cgroups, resource_writes
from pyruntime.plan.resources_v2 import io_weight
from pyruntime.plan.setting import huge_page_bytes, pages, parse_size
from pyruntime.spec import decode_resources

CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "devices", "blkio", "hugetlb", "net_cls", "net_prio", "rdma", "freezer")
V1 = cgroups_of(Host((6, 1), tuple(Hierarchy(f"/cg/{name}", False, (name,)) for name in CONTROLLERS), 0), "/c")
HYBRID = (*V1, *cgroups_of(Host((6, 1), (Hierarchy("/cg/unified", True),), 0), "/c"))
V2 = cgroups_of(Host((6, 1), (Hierarchy("/cg", True),), 0), "/c")
NO_LIMIT = str(2**63 - 4096)
DISK = {"major": 8, "minor": 16}


def written(cgroups: tuple[Cgroup, ...], resources: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """JSON path and file, what is written and what is expected then, of each write."""
    found = []
    for write in resource_writes(cgroups, decode_resources(resources), 4096, "$"):
        texts = [text.decode() for text in write.texts]
        values, expected = texts[write.unless:len(texts) - write.expected], texts[len(texts) - write.expected:]
        assert bool(expected) == (write.check != flags.CHECK_NOTHING)
        found.append((write.json_path, write.path.decode().partition("/c/")[2], tuple(values), tuple(expected)))
    return found


def row(json_path: str, file: str, value: str, expected: str | None = "same") -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    return json_path, file, (value,), () if expected is None else (value if expected == "same" else expected,)


@pytest.mark.conformance(41)
def test_block_io() -> None:
    block_io = {"blockIO": {"weight": 500, "weightDevice": [{**DISK, "weight": 300}],
                            "throttleReadBpsDevice": [{**DISK, "rate": 600}, {"major": 8, "minor": 0, "rate": 0}],
                            "throttleWriteBpsDevice": [{**DISK, "rate": 2**64 - 1}],
                            "throttleReadIOPSDevice": [{**DISK, "rate": 2**32 - 1}], "throttleWriteIOPSDevice": [{**DISK, "rate": 7}]}}
    at, throttle = "$.blockIO", "blkio.throttle"
    assert written(V1, block_io) == [
        row(f"{at}.weight", "blkio.bfq.weight", "500"), row(f"{at}.weightDevice[0]", "blkio.bfq.weight_device", "8:16 300"),
        row(f"{at}.throttleReadBpsDevice[0]", f"{throttle}.read_bps_device", "8:16 600"),
        row(f"{at}.throttleReadBpsDevice[1]", f"{throttle}.read_bps_device", "8:0 0"),
        row(f"{at}.throttleWriteBpsDevice[0]", f"{throttle}.write_bps_device", f"8:16 {2**64 - 1}"),
        row(f"{at}.throttleReadIOPSDevice[0]", f"{throttle}.read_iops_device", f"8:16 {2**32 - 1}"),
        row(f"{at}.throttleWriteIOPSDevice[0]", f"{throttle}.write_iops_device", "8:16 7"),
    ]
    assert written(V2, block_io) == [
        row(f"{at}.weight", "io.bfq.weight", "default 500"), row(f"{at}.weight", "io.weight", f"default {io_weight(500)}"),
        row(f"{at}.weightDevice[0]", "io.bfq.weight", "8:16 300"), row(f"{at}.weightDevice[0]", "io.weight", f"8:16 {io_weight(300)}"),
        row(f"{at}.throttleReadBpsDevice[0]", "io.max", "8:16 rbps=600"),
        row(f"{at}.throttleReadBpsDevice[1]", "io.max", "8:0 rbps=max"),
        row(f"{at}.throttleWriteBpsDevice[0]", "io.max", "8:16 wbps=max"),
        row(f"{at}.throttleReadIOPSDevice[0]", "io.max", "8:16 riops=max"),
        row(f"{at}.throttleWriteIOPSDevice[0]", "io.max", "8:16 wiops=7"),
    ]


@pytest.mark.conformance(41)
@pytest.mark.parametrize("cgroups", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(("name", "rate", "check"), [
    ("throttleReadBpsDevice", 0, flags.CHECK_NOT_OTHERWISE), ("throttleReadBpsDevice", 2**32 - 1, flags.CHECK_LINES),
    ("throttleWriteBpsDevice", 2**64 - 1, flags.CHECK_NOT_OTHERWISE), ("throttleReadIOPSDevice", 2**32 - 1, flags.CHECK_NOT_OTHERWISE),
    ("throttleWriteIOPSDevice", 2**32 - 2, flags.CHECK_LINES),
])
def test_a_rate_that_is_no_limit(cgroups: tuple[Cgroup, ...], name: str, rate: int, check: int) -> None:
    """The kernel lists no device without one."""
    (write,) = resource_writes(cgroups, decode_resources({"blockIO": {name: [{**DISK, "rate": rate}]}}), 4096)
    assert write.check == check


@pytest.mark.conformance(41)
def test_a_weight_is_for_bfq_where_the_kernel_has_it() -> None:
    bfq, cost = resource_writes(V2, decode_resources({"blockIO": {"weight": 500}}), 4096)
    assert (bfq.path, bfq.is_optional, bfq.unless) == (b"/cg/c/io.bfq.weight", 1, 0)
    assert (cost.path, cost.is_optional, cost.unless, cost.texts[0]) == (b"/cg/c/io.weight", 0, 1, b"/cg/c/io.bfq.weight")
    assert cost.values == (b"default 4950",)


@pytest.mark.conformance(41)
@pytest.mark.parametrize(("weight", "of_v2"), [(1, 1), (10, 1), (11, 11), (100, 910), (500, 4950), (999, 9989), (1000, 10000)])
def test_io_weight(weight: int, of_v2: int) -> None:
    assert io_weight(weight) == of_v2


@pytest.mark.conformance(42)
@pytest.mark.parametrize(("limit", "v1", "v2"), [
    (0, "0", "0"), (1, "0", "0"), (2 << 20, str(2 << 20), str(2 << 20)), (5 << 20, str(4 << 20), str(4 << 20)),
    (2**63 - 1, str(2**63 - (2 << 20)), "max"), (2**64 - 1, str(2**63 - (2 << 20)), "max"),
])
def test_hugepages(limit: int, v1: str, v2: str) -> None:
    """The usage and the reservations; the kernel keeps whole pages."""
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": limit}]}
    assert written(V1, resources) == [row("$.hugepageLimits[0]", f"hugetlb.2MB.{kind}limit_in_bytes", str(limit), v1) for kind in ("", "rsvd.")]
    assert written(V2, resources) == [row("$.hugepageLimits[0]", f"hugetlb.2MB.{kind}max", str(limit), v2) for kind in ("", "rsvd.")]
    assert [write.is_optional for write in resource_writes(V2, decode_resources(resources), 4096)] == [0, 1]


@pytest.mark.conformance(43)
def test_network() -> None:
    network = {"network": {"classID": 2**32 - 1, "priorities": [{"name": "eth0", "priority": 500}, {"name": "lo", "priority": 0}]}}
    assert written(HYBRID, network) == [
        row("$.network.classID", "net_cls.classid", str(2**32 - 1)),
        row("$.network.priorities[0]", "net_prio.ifpriomap", "eth0 500"), row("$.network.priorities[1]", "net_prio.ifpriomap", "lo 0"),
    ]


@pytest.mark.conformance(45)
@pytest.mark.parametrize("cgroups", [V1, V2], ids=["v1", "v2"])
def test_rdma(cgroups: tuple[Cgroup, ...]) -> None:
    rdma = {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}, "rxe3": {"hcaObjects": 2**32 - 1}}}
    assert written(cgroups, rdma) == [row('$.rdma["mlx5_1"]', "rdma.max", "mlx5_1 hca_handle=3 hca_object=0"),
                                      row('$.rdma["rxe3"]', "rdma.max", "rxe3 hca_object=max")]


@pytest.mark.conformance(38)
def test_memory_is_kept_in_pages() -> None:
    memory = {"memory": {"limit": 10000, "swap": 30001, "reservation": 4095}}
    assert written(V1, memory) == [
        row("$.memory.limit", "memory.limit_in_bytes", "10000", "8192"), row("$.memory.swap", "memory.memsw.limit_in_bytes", "30001", "28672"),
        row("$.memory.reservation", "memory.soft_limit_in_bytes", "4095", "0")]
    assert written(V2, memory) == [
        row("$.memory.swap", "memory.swap.max", "20001", "16384"), row("$.memory.limit", "memory.max", "10000", "8192"),
        row("$.memory.reservation", "memory.low", "4095", "0")]


@pytest.mark.conformance(38)
def test_no_limit_of_memory_is_none_of_swap_either() -> None:
    assert written(V1, {"memory": {"limit": -1}}) == [row("$.memory.limit", "memory.limit_in_bytes", "-1", NO_LIMIT),
                                                      row("$.memory.limit", "memory.memsw.limit_in_bytes", "-1", NO_LIMIT)]
    assert written(V2, {"memory": {"limit": -1}}) == [row("$.memory.limit", file, "max") for file in ("memory.swap.max", "memory.max")]
    for cgroups in (V1, V2):
        optional = [write.is_optional for write in resource_writes(cgroups, decode_resources({"memory": {"limit": -1}}), 4096)]
        assert sorted(optional) == [0, 1]


@pytest.mark.conformance(38)
def test_other_settings_of_memory() -> None:
    memory = {"memory": {"swappiness": 0, "disableOOMKiller": True, "kernelTCP": 8192, "kernel": -1, "useHierarchy": True}}
    assert written(V1, memory) == [row("$.memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", "8192"),
                                   row("$.memory.swappiness", "memory.swappiness", "0"),
                                   row("$.memory.disableOOMKiller", "memory.oom_control", "1", "oom_kill_disable 1")]
    # stated is stated: a new cgroup has it as the one above, and a running container may have it otherwise
    assert written(V1, {"memory": {"disableOOMKiller": False}}) == [
        row("$.memory.disableOOMKiller", "memory.oom_control", "0", "oom_kill_disable 0")]
    assert written(V2, {"memory": {"disableOOMKiller": False}}) == []


@pytest.mark.conformance(40)
def test_processors() -> None:
    cpu: dict[str, Any] = {"shares": 1, "quota": 5000, "period": 10000, "burst": 0, "realtimeRuntime": 950, "realtimePeriod": 1000,
                           "cpus": "0, 2-3", "mems": "0"}
    assert written(V1, {"cpu": cpu}) == [
        row("$.cpu.shares", "cpu.shares", "1", "2"), row("$.cpu.period", "cpu.cfs_period_us", "10000"),
        row("$.cpu.quota", "cpu.cfs_quota_us", "5000"), row("$.cpu.burst", "cpu.cfs_burst_us", "0"),
        row("$.cpu.realtimePeriod", "cpu.rt_period_us", "1000"), row("$.cpu.realtimeRuntime", "cpu.rt_runtime_us", "950"),
        row("$.cpu.cpus", "cpuset.cpus", "0, 2-3", "0,2-3"), row("$.cpu.mems", "cpuset.mems", "0")]
    del cpu["realtimePeriod"], cpu["realtimeRuntime"]
    assert written(V2, {"cpu": cpu}) == [
        row("$.cpu.shares", "cpu.weight", "1"), row("$.cpu.quota", "cpu.max", "5000 10000"), row("$.cpu.burst", "cpu.max.burst", "0"),
        row("$.cpu.cpus", "cpuset.cpus", "0, 2-3", "0,2-3"), row("$.cpu.mems", "cpuset.mems", "0")]
    for cgroups, check in ((V1, flags.CHECK_WITHIN), (V2, flags.CHECK_WITHIN_EFFECTIVE)):
        assert [each.check for each in resource_writes(cgroups, decode_resources({"cpu": {"cpus": "0", "mems": "0"}}), 4096)] == [check] * 2


@pytest.mark.conformance(40)
@pytest.mark.parametrize(("cgroups", "weight"), [(V1, "cpu.shares"), (V2, "cpu.weight")])
def test_idle_is_before_shares(cgroups: tuple[Cgroup, ...], weight: str) -> None:
    """A group that is idle takes none."""
    assert [file for _, file, _, _ in written(cgroups, {"cpu": {"shares": 1024, "idle": 0}})] == ["cpu.idle", weight]


@pytest.mark.conformance(44)
@pytest.mark.parametrize("cgroups", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(("limit", "value"), [(-1, "max"), (0, "1"), (1, "1"), (9, "9")])
def test_pids(cgroups: tuple[Cgroup, ...], limit: int, value: str) -> None:
    """0 allows the container's process, without which there is no container, and no other."""
    resources = {"pids": {"limit": limit}}
    assert written(cgroups, resources) == [row("$.pids.limit", "pids.max", value)]
    assert limits_pids(decode_resources(resources)) is (limit >= 0)


LINES, ALONE, NOT_OTHERWISE, CHANGED = flags.CHECK_LINES, flags.CHECK_LINES_ALONE, flags.CHECK_NOT_OTHERWISE, flags.CHECK_CHANGED


@pytest.mark.conformance(46)
@pytest.mark.parametrize(("file", "text", "expected", "check"), [
    ("memory.high", "32M", str(32 << 20), LINES), ("memory.high", "max", "max", LINES), ("memory.low", "5000", "4096", LINES),
    ("memory.high", "0x2001", "8192", LINES), ("memory.high", "010K", "8192", LINES), ("memory.high", "32 M", "32 M", CHANGED),
    ("hugetlb.1GB.max", str(3 << 29), str(1 << 30), LINES), ("hugetlb.2MB.rsvd.max", "max", "max", LINES),
    ("pids.max", " 7 ", "7", ALONE), ("pids.max", "max", "max", ALONE), ("cpu.weight", "0x64", "100", ALONE),
    ("cpu.weight.nice", "-5", "-5", ALONE), ("cpu.weight", "+1", "1", ALONE), ("cpu.weight", "+-1", "+-1", CHANGED),
    ("cpu.weight", "1 2", "1 2", CHANGED),
    ("cpu.max", "5000", "5000", LINES), ("cpu.max", "max 010000", "max 10000", LINES), ("cpu.max", "a b", "a b", CHANGED),
    ("cpu.uclamp.min", "20", "20.00", ALONE), ("cpu.uclamp.max", "33.3", "33.30", ALONE), ("cpu.uclamp.max", "100", "max", ALONE),
    ("cpu.uclamp.max", "1.234", "1.234", CHANGED), ("cpuset.cpus.partition", "isolated", "isolated", ALONE),
    ("io.prio.class", "restrict-to-be", "restrict-to-be", ALONE),
    ("cpuset.cpus", "0-1, 3", "0-1,3", flags.CHECK_WITHIN_EFFECTIVE), ("cpuset.cpus", "0 2", "0,2", flags.CHECK_WITHIN_EFFECTIVE),
    ("cpuset.cpus", "0-6:1/2,9", "0-0,2-2,4-4,6-6,9", flags.CHECK_WITHIN_EFFECTIVE),
    ("cpuset.cpus", "all", "0-8191", flags.CHECK_WITHIN_EFFECTIVE),
    ("cpuset.cpus", "2-N 01", "2-8191,1", flags.CHECK_WITHIN_EFFECTIVE),
    ("cpuset.cpus.exclusive", "1-6:3/4", "1-3,5-6", flags.CHECK_WITHIN),
    ("io.weight", "200", "default 200", LINES), ("io.bfq.weight", "default 7", "default 7", LINES),
    ("io.weight", "08:0 200", "8:0 200", LINES), ("io.weight", "8:0 default", "8:0 default", NOT_OTHERWISE),
    ("io.weight", "8:0 9 9", "8:0 9 9", CHANGED), ("io.weight", "8 9", "8 9", CHANGED), ("io.weight", "default", "default", CHANGED),
    ("io.latency", "8:0 target=75000", "8:0 target=75000", LINES), ("io.latency", "8:0 target=0", "8:0 target=0", NOT_OTHERWISE),
    ("io.latency", "8:0 target=max", "8:0 target=0", NOT_OTHERWISE), ("io.latency", "8:0 75000", "8:0 75000", CHANGED),
    ("io.max", "259:0 rbps=2097152 wiops=120", "259:0 rbps=2097152 wiops=120", LINES),
    ("io.max", "8:0 rbps=max wiops=5", "8:0 rbps=max wiops=5", LINES), ("io.max", "8:0 rbps=5 rbps=max", "8:0 rbps=max", NOT_OTHERWISE),
    ("io.max", "8:0 riops=4294967295", "8:0 riops=max", NOT_OTHERWISE), ("io.max", "8:0 rbps", "8:0 rbps", CHANGED),
    ("io.max", "8:0", "8:0", CHANGED),
    ("misc.max", "sev 010", "sev 8", LINES), ("misc.max", "sev max", "sev max", LINES), ("misc.max", "sev", "sev", CHANGED),
    ("dmem.max", "drm/card0/vram0 1G", f"drm/card0/vram0 {1 << 30}", LINES), ("dmem.low", "drm/card0/vram0 max", "drm/card0/vram0 max", LINES),
    ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max", "mlx4_0 hca_handle=2 hca_object=max", LINES),
    ("rdma.max", "mlx4_0 hca_handle=2147483647", "mlx4_0 hca_handle=max", LINES), ("rdma.max", "mlx4_0", "mlx4_0", CHANGED),
    ("rdma.max", "mlx4_0 hca_handle=x", "mlx4_0 hca_handle=x", CHANGED), ("later.file", "what  ever ", "what  ever", CHANGED),
])
def test_unified(file: str, text: str, expected: str, check: int) -> None:
    """How it is read again; what is not known here, or is not well formed, has at least to change the file."""
    assert written(V2, {"unified": {file: text}}) == [(f'$.unified["{file}"]', file, (text,), (expected,))]
    (write,) = resource_writes(V2, decode_resources({"unified": {file: text}}), 4096)
    assert write.check == check
    assert written(HYBRID, {"unified": {file: text}}) == written(V2, {"unified": {file: text}})


@pytest.mark.conformance(46)
def test_unified_of_many_lines() -> None:
    """Each is a write of its own, and is read again."""
    path = '$.unified["io.max"]'
    assert written(V2, {"unified": {"io.max": "259:0 rbps=2097152\n\n253:0 rbps=max\n"}}) == [
        row(path, "io.max", "259:0 rbps=2097152"), row(path, "io.max", "253:0 rbps=max")]


@pytest.mark.conformance(46)
def test_unified_of_what_says_nothing() -> None:
    assert written(V2, {"unified": {"cpuset.cpus": "", "memory.reclaim": "1M", "cpuset.mems": "N", "a.b": " "}}) == [
        ('$.unified["cpuset.cpus"]', "cpuset.cpus", ("\n",), ("",)), ('$.unified["memory.reclaim"]', "memory.reclaim", ("1M",), ()),
        ('$.unified["cpuset.mems"]', "cpuset.mems", ("N",), ()),
        ('$.unified["a.b"]', "a.b", ("\n",), ("",))]


@pytest.mark.conformance(46)
@pytest.mark.parametrize(("file", "why"), [
    ("cgroup.procs", "acts on processes"), ("cgroup.threads", "acts on processes"), ("cgroup.kill", "acts on processes"),
    ("cgroup.freeze", "pausing does it later"), ("memory.pressure", "while the file is open"), ("memory.peak", "while the file is open"),
])
def test_files_that_are_no_limits(file: str, why: str) -> None:
    with pytest.raises(UnsupportedFieldError, match=why) as raised:
        written(V2, {"unified": {file: "1"}})
    assert raised.value.json_path == f'$.unified["{file}"]'


@pytest.mark.conformance(46)
def test_unified_comes_after_what_is_translated() -> None:
    files = [(file, values) for _, file, values, _ in written(V2, {"pids": {"limit": 5}, "unified": {"pids.max": "7", "a.b": "1"}})]
    assert files == [("pids.max", ("5",)), ("pids.max", ("7",)), ("a.b", ("1",))]


@pytest.mark.conformance(46)
@pytest.mark.parametrize(("cgroups", "resources", "controllers"), [
    (V2, None, b"cpuset cpu io memory hugetlb pids"), (V2, {}, b"cpuset cpu io memory hugetlb pids"),
    (V2, {"unified": {"misc.max": "a 1", "dmem.max": "b 2", "pids.max": "3", "cgroup.max.depth": "1"}},
     b"cpuset cpu io memory hugetlb pids dmem misc"),
    (V2, {"rdma": {"m": {"hcaHandles": 1}}}, b"cpuset cpu io memory hugetlb pids rdma"),
    (HYBRID, {"unified": {"misc.max": "a 1", "cgroup.max.depth": "1"}}, b"misc"), (HYBRID, {"rdma": {"m": {"hcaHandles": 1}}}, None),
    (HYBRID, None, None),
])
def test_controllers_that_are_asked_for_are_passed_on(cgroups: tuple[Cgroup, ...], resources: dict[str, Any] | None,
                                                      controllers: bytes | None) -> None:
    draft = Draft()
    make_cgroups(draft, cgroups, None if resources is None else decode_resources(resources), 4096)
    assert [each.controllers for each in draft.host if isinstance(each, op.EnableControllers)] == ([] if controllers is None else [controllers])


@pytest.mark.conformance(35)
@pytest.mark.parametrize(("has_path", "refuses"), [(False, 1), (True, 2)])
def test_where_a_frozen_cgroup_is_looked_for(has_path: bool, refuses: int) -> None:
    """Where there is a freezer; above the default path is nobody's cgroup but ours."""
    draft = Draft()
    make_cgroups(draft, HYBRID, None, 4096, has_path=has_path)
    found = {each.path.decode(): each.refuses_frozen for each in draft.host if isinstance(each, op.MakeCgroup)}
    assert found == {cgroup.path: refuses if "freezer" in cgroup.controllers or cgroup.is_v2 else 0 for cgroup in HYBRID}


def test_nothing_is_imported_for_a_container_without_limits() -> None:
    program = """if True:
        import sys
        from pyruntime.cgroups import cgroups_of
        from pyruntime.host import Hierarchy, Host
        from pyruntime.plan.draft import Draft
        from pyruntime.plan.resources import make_cgroups
        from pyruntime.runtimes import native
        from pyruntime.spec import decode_resources
        make_cgroups(Draft(), cgroups_of(Host((6, 1), (Hierarchy("/cg", True),), 0), "/c"), decode_resources({"devices": []}), 4096)
        print(*sorted(name for name in sys.modules if name.startswith("pyruntime.plan.")))
    """
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "pyruntime.plan.resources" in found
    assert not {f"pyruntime.plan.{name}" for name in ("setting", "resources_v1", "resources_v2", "update", "unit_properties")} & set(found)


def test_no_write_without_limits() -> None:
    draft = Draft()
    make_cgroups(draft, V2, decode_resources({"devices": [{"allow": True, "type": "c", "major": 10, "minor": 200}]}), 4096)
    assert [type(each) for each in draft.host] == [op.MakeCgroup, op.EnableControllers, op.AttachDeviceProgram]


@pytest.mark.parametrize(("resources", "limited"), [
    (None, False), ({}, False), ({"memory": {"limit": -1, "swap": -1}}, False), ({"memory": {"limit": 0}}, False),
    ({"memory": {"limit": 1}}, True), ({"memory": {"swap": 9}}, True), ({"unified": {"memory.max": "max\n"}}, False),
    ({"unified": {"memory.max": "1M"}}, True),
    ({"memory": {"reservation": 4}}, False),
])
def test_whether_memory_is_limited(resources: dict[str, Any] | None, limited: bool) -> None:
    assert limits_memory(None if resources is None else decode_resources(resources)) is limited


@pytest.mark.parametrize(("text", "size"), [("max", -1), ("0", 0), ("12", 12), ("3k", 3072), (" 1M ", 1 << 20), ("2G", 2 << 30),
                                            ("1T", 1 << 40),
                                            ("010", 8), ("0x10k", 16384), ("0x1E", 30), ("0x", None),
                                            ("", None), ("M", None), ("1MB", None), ("-1", None), ("09", None)])
def test_sizes_as_the_kernel_reads_them(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_pages() -> None:
    assert [pages(size, 4096, 4096) for size in (-1, 0, 4095, 4096, 2**63 - 1, 2**63 - 4097)] == [None, 0, 0, 4096, None, 2**63 - 8192]
    assert [huge_page_bytes(size) for size in ("64KB", "2MB", "1GB")] == [1 << 16, 2 << 20, 1 << 30]
