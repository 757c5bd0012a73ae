"""Resources as files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst of Linux)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan.resources_v1 import pids
from pyruntime.plan.setting import INT_MAX, U64_MAX, UINT_MAX, Setting, counter, exact, huge_page_bytes, number_list
from pyruntime.spec import CPU, BlockIO, HugepageLimit, Memory, Rdma, Resources
from pyruntime.spec.refusal import entry


def v2_settings(resources: Resources, json_path: str, page_bytes: int) -> Iterator[Setting]:
    """Everything but devices, `rdma` and `unified`, in the order in which a new cgroup takes it. json_path: of the resources.

    Raises UnsupportedFieldError for what cgroup v2 has not.
    """
    if resources.memory is not None:
        yield from _memory(resources.memory, json_path, page_bytes)
    if resources.cpu is not None:
        yield from _cpu(resources.cpu, json_path)
    if resources.pids is not None:
        yield from pids(resources.pids)
    if resources.block_io is not None:
        yield from _block_io(resources.block_io, json_path)
    for i, limit in enumerate(resources.hugepage_limits):
        yield from _hugepages(limit, i, page_bytes)
    if resources.network is not None and (resources.network.class_id or resources.network.priorities):
        raise _not_on_v2(f"{json_path}.network")


def _not_on_v2(json_path: str) -> UnsupportedFieldError:
    return UnsupportedFieldError(None, json_path, "there is no such setting on cgroup v2")


def cpu_weight(shares: int) -> int:
    """v2's 1..10000 for v1's 2..262144, such that both minima, defaults (1024: 100) and maxima meet.

    The quadratic in log2(shares) that runc 1.3.2 and crun 1.23 agreed on.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """1..10000 of io.weight for 10..1000 of blkio.weight, linear as with runc and crun."""
    return max(1, 1 + (weight - 10) * 9999 // 990)


def swap_alone(memory: Memory, json_path: str) -> str | None:
    """The specification's value is memory and swap together, as on v1; None where nothing is said of swap."""
    swap, limit = memory.swap or 0, memory.limit or 0
    if swap < 0 or (not swap and limit < 0):
        # without any limit of memory none of swap is meant either, also where there was one
        return "max"
    if not swap:
        return None
    if limit <= 0:
        raise UnsupportedFieldError(None, f"{json_path}.memory.swap",
                                    "is memory and swap together, which cgroup v2 can limit only beside memory.limit")
    return str(swap - limit)


def _memory(memory: Memory, json_path: str, page_bytes: int) -> Iterator[Setting]:
    for name, value in (("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)):
        if value is not None and value > 0:
            raise _not_on_v2(f"{json_path}.memory.{name}")
    if memory.swappiness is not None:
        raise _not_on_v2(f"{json_path}.memory.swappiness")
    if memory.disable_oom_killer:
        raise _not_on_v2(f"{json_path}.memory.disableOOMKiller")
    # first where to put what does not fit any more
    swap = swap_alone(memory, json_path)
    if swap is not None:
        # a kernel without swap has no such file
        yield counter("memory.swap" if memory.swap else "memory.limit", "memory", "memory.swap.max", swap, page_bytes, page_bytes,
                      is_optional=swap in ("0", "max"))
    for name, file, limit in (("limit", "memory.max", memory.limit), ("reservation", "memory.low", memory.reservation)):
        if limit:
            yield counter(f"memory.{name}", "memory", file, "max" if limit < 0 else str(limit), page_bytes, page_bytes)


def _cpu(cpu: CPU, json_path: str) -> Iterator[Setting]:
    for name, number in (("realtimePeriod", cpu.realtime_period), ("realtimeRuntime", cpu.realtime_runtime)):
        if number:
            raise _not_on_v2(f"{json_path}.cpu.{name}")
    # a group that is idle takes no weight
    if cpu.idle is not None:
        yield exact("cpu.idle", "cpu", "cpu.idle", str(cpu.idle))
    if cpu.shares:
        yield exact("cpu.shares", "cpu", "cpu.weight", str(cpu_weight(cpu.shares)))
    if cpu.quota or cpu.period:
        quota = "max" if not cpu.quota or cpu.quota < 0 else str(cpu.quota)
        # without a period the cgroup's stays
        yield exact("cpu.quota" if cpu.quota else "cpu.period", "cpu", "cpu.max", f"{quota} {cpu.period}" if cpu.period else quota)
    if cpu.burst is not None:
        yield exact("cpu.burst", "cpu", "cpu.max.burst", str(cpu.burst))
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value:
            # one that no parent has is taken, and the parent's hold
            yield number_list(f"cpu.{name}", f"cpuset.{name}", value, flags.CHECK_WITHIN_EFFECTIVE)


def _block_io(block_io: BlockIO, json_path: str) -> Iterator[Setting]:
    if block_io.leaf_weight:
        raise _not_on_v2(f"{json_path}.blockIO.leafWeight")
    # Docker writes a weight of 0 where none is asked for
    if block_io.weight:
        yield from _io_weight("blockIO.weight", "default", block_io.weight)
    for i, device in enumerate(block_io.weight_device):
        if device.leaf_weight:
            raise _not_on_v2(f"{json_path}.blockIO.weightDevice[{i}].leafWeight")
        if device.weight:
            yield from _io_weight(f"blockIO.weightDevice[{i}]", f"{device.major}:{device.minor}", device.weight)
    for name, key, largest, devices in (
            ("throttleReadBpsDevice", "rbps", U64_MAX, block_io.throttle_read_bps_device),
            ("throttleWriteBpsDevice", "wbps", U64_MAX, block_io.throttle_write_bps_device),
            ("throttleReadIOPSDevice", "riops", UINT_MAX, block_io.throttle_read_iops_device),
            ("throttleWriteIOPSDevice", "wiops", UINT_MAX, block_io.throttle_write_iops_device)):
        for i, throttle in enumerate(devices):
            # on v1 a rate of 0 takes the limit away; the kernel lists no device without one
            rate = str(throttle.rate) if 0 < throttle.rate < largest else "max"
            line = f"{throttle.major}:{throttle.minor} {key}={rate}"
            yield Setting(f"blockIO.{name}[{i}]", "io", "io.max", (line,), (line,),
                          flags.CHECK_NOT_OTHERWISE if rate == "max" else flags.CHECK_LINES)


_BFQ_WEIGHT = "io.bfq.weight"


def _io_weight(json_path: str, key: str, weight: int) -> Iterator[Setting]:
    """The BFQ scheduler has the range of v1; where the kernel has none of it, io.cost."""
    line = f"{key} {weight}"
    yield Setting(json_path, "io", _BFQ_WEIGHT, (line,), (line,), is_optional=True)
    line = f"{key} {io_weight(weight)}"
    yield Setting(json_path, "io", "io.weight", (line,), (line,), unless=(_BFQ_WEIGHT,))


def _hugepages(limit: HugepageLimit, index: int, page_bytes: int) -> Iterator[Setting]:
    for kind in ("", "rsvd."):
        yield counter(f"hugepageLimits[{index}]", "hugetlb", f"hugetlb.{limit.page_size}.{kind}max", str(limit.limit),
                      huge_page_bytes(limit.page_size), page_bytes, is_optional=bool(kind))


def rdma_settings(devices: Mapping[str, Rdma]) -> Iterator[Setting]:
    """The same file on v1."""
    for name, limits in devices.items():
        # the largest number that the kernel takes is to it no limit
        words = tuple(f"{key}={'max' if value >= INT_MAX else value}"
                      for key, value in (("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)) if value is not None)
        line = " ".join((name, *words))
        yield Setting(entry("rdma", name), "rdma", "rdma.max", (line,), (line,))
