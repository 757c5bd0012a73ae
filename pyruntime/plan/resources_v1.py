"""Resources as files of cgroup v1 (Documentation/admin-guide/cgroup-v1 of Linux)."""

from __future__ import annotations

from collections.abc import Iterator

from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan.setting import U64_MAX, UINT_MAX, Setting, exact, huge_page_bytes, no_limit_v1, number_list, pages
from pyruntime.spec import CPU, BlockIO, HugepageLimit, Memory, Network, Pids, Resources

_LEAST_SHARES = 2


def v1_settings(resources: Resources, json_path: str, page_bytes: int) -> Iterator[Setting]:
    """Everything but devices, `rdma` and `unified`, in the order in which a new cgroup takes it. json_path: of the resources.

    Raises UnsupportedFieldError for what this kernel or cgroup v1 has not.
    """
    if resources.memory is not None:
        yield from _memory(resources.memory, json_path, page_bytes)
    if resources.cpu is not None:
        yield from _cpu(resources.cpu)
    if resources.pids is not None:
        yield from pids(resources.pids)
    if resources.block_io is not None:
        yield from _block_io(resources.block_io, json_path)
    for i, limit in enumerate(resources.hugepage_limits):
        yield from _hugepages(limit, i, page_bytes)
    if resources.network is not None:
        yield from _network(resources.network)


def _memory(memory: Memory, json_path: str, page_bytes: int) -> Iterator[Setting]:
    if memory.kernel is not None and memory.kernel > 0:
        raise UnsupportedFieldError(None, f"{json_path}.memory.kernel", "Linux 5.16 took this limit away")

    def size(name: str, file: str, value: int, *, is_optional: bool = False) -> Setting:
        kept = pages(value, page_bytes, page_bytes)
        expected = no_limit_v1(page_bytes, page_bytes) if kept is None else kept
        return Setting(f"memory.{name}", "memory", file, (str(value),), (str(expected),), is_optional=is_optional)

    # the limit with swap may never be below the one without, so it is first when both grow: both start unlimited
    if memory.limit:
        yield size("limit", "memory.limit_in_bytes", memory.limit)
    if memory.swap:
        yield size("swap", "memory.memsw.limit_in_bytes", memory.swap)
    elif memory.limit is not None and memory.limit < 0:
        # no limit at all is meant, also where there was one of both; without accounting of swap there is no such file
        yield size("limit", "memory.memsw.limit_in_bytes", -1, is_optional=True)
    if memory.reservation:
        yield size("reservation", "memory.soft_limit_in_bytes", memory.reservation)
    if memory.kernel_tcp:
        yield size("kernelTCP", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)
    if memory.swappiness is not None:
        yield exact("memory.swappiness", "memory", "memory.swappiness", str(memory.swappiness))
    if memory.disable_oom_killer is not None:
        # also where it is to be on: a new cgroup has it as the one above
        value = str(int(memory.disable_oom_killer))
        yield Setting("memory.disableOOMKiller", "memory", "memory.oom_control", (value,), (f"oom_kill_disable {value}",))


def _cpu(cpu: CPU) -> Iterator[Setting]:
    # a group that is idle takes no shares
    if cpu.idle is not None:
        yield exact("cpu.idle", "cpu", "cpu.idle", str(cpu.idle))
    if cpu.shares:
        yield Setting("cpu.shares", "cpu", "cpu.shares", (str(cpu.shares),), (str(max(cpu.shares, _LEAST_SHARES)),))
    for name, file, value in (("period", "cpu.cfs_period_us", cpu.period), ("quota", "cpu.cfs_quota_us", cpu.quota)):
        if value:
            yield exact(f"cpu.{name}", "cpu", file, str(value))
    if cpu.burst is not None:
        yield exact("cpu.burst", "cpu", "cpu.cfs_burst_us", str(cpu.burst))
    for name, file, value in (("realtimePeriod", "cpu.rt_period_us", cpu.realtime_period),
                              ("realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime)):
        if value:
            yield exact(f"cpu.{name}", "cpu", file, str(value))
    for name, value_text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value_text:
            yield number_list(f"cpu.{name}", f"cpuset.{name}", value_text, flags.CHECK_WITHIN)


def pids(limit: Pids) -> Iterator[Setting]:
    """The same file on v2."""
    if limit.limit is not None:
        # with no process at all the container's own could not be made; where there is one, 1 allows no other
        value = "max" if limit.limit < 0 else str(max(limit.limit, 1))
        yield exact("pids.limit", "pids", "pids.max", value)


def _block_io(block_io: BlockIO, json_path: str) -> Iterator[Setting]:
    if block_io.leaf_weight:
        raise UnsupportedFieldError(None, f"{json_path}.blockIO.leafWeight", "Linux 5.0 took the CFQ scheduler away, which alone knew it")
    # Docker writes a weight of 0 where none is asked for
    if block_io.weight:
        yield exact("blockIO.weight", "blkio", "blkio.bfq.weight", str(block_io.weight))
    for i, device in enumerate(block_io.weight_device):
        if device.leaf_weight:
            raise UnsupportedFieldError(None, f"{json_path}.blockIO.weightDevice[{i}].leafWeight",
                                        "Linux 5.0 took the CFQ scheduler away, which alone knew it")
        if device.weight:
            yield exact(f"blockIO.weightDevice[{i}]", "blkio", "blkio.bfq.weight_device", f"{device.major}:{device.minor} {device.weight}")
    for name, file, largest, devices in (
            ("throttleReadBpsDevice", "read_bps", U64_MAX, block_io.throttle_read_bps_device),
            ("throttleWriteBpsDevice", "write_bps", U64_MAX, block_io.throttle_write_bps_device),
            ("throttleReadIOPSDevice", "read_iops", UINT_MAX, block_io.throttle_read_iops_device),
            ("throttleWriteIOPSDevice", "write_iops", UINT_MAX, block_io.throttle_write_iops_device)):
        for i, throttle in enumerate(devices):
            line = f"{throttle.major}:{throttle.minor} {throttle.rate}"
            # a rate of 0 takes the limit away, and the kernel lists no device without one
            yield Setting(f"blockIO.{name}[{i}]", "blkio", f"blkio.throttle.{file}_device", (line,), (line,),
                          flags.CHECK_LINES if 0 < throttle.rate < largest else flags.CHECK_NOT_OTHERWISE)


def _hugepages(limit: HugepageLimit, index: int, page_bytes: int) -> Iterator[Setting]:
    huge_bytes = huge_page_bytes(limit.page_size)
    kept = pages(limit.limit, huge_bytes, page_bytes)
    expected = str(no_limit_v1(huge_bytes, page_bytes) if kept is None else kept)
    for kind in ("", "rsvd."):
        yield Setting(f"hugepageLimits[{index}]", "hugetlb", f"hugetlb.{limit.page_size}.{kind}limit_in_bytes", (str(limit.limit),),
                      (expected,), is_optional=bool(kind))


def _network(network: Network) -> Iterator[Setting]:
    if network.class_id:
        yield exact("network.classID", "net_cls", "net_cls.classid", str(network.class_id))
    for i, priority in enumerate(network.priorities):
        yield exact(f"network.priorities[{i}]", "net_prio", "net_prio.ifpriomap", f"{priority.name} {priority.priority}")
