"""Checks of `linux.resources` (runtime-spec, config-linux.md "Control groups")."""

from __future__ import annotations

from pyruntime.spec.checks.integers import check_uint64
from pyruntime.spec.checks.text import check_number_list
from pyruntime.spec.refusal import Refused, entry, quote
from pyruntime.spec.resources import CPU, BlockIO, DeviceCgroupRule, HugepageLimit, Memory, Rdma, Resources

_SHORTEST_QUOTA_US = 1000
_LONGEST_PERIOD_US = 1_000_000


def check_resources(resources: Resources, json_path: str) -> None:
    """Refuse what no cgroup can be set to. `json_path` is where the object stands."""
    for i, rule in enumerate(resources.devices):
        _check_device_rule(rule, f"{json_path}.devices[{i}]")
    if resources.memory is not None:
        _check_memory(resources.memory, f"{json_path}.memory")
    if resources.cpu is not None:
        _check_cpu(resources.cpu, f"{json_path}.cpu")
    if resources.block_io is not None:
        _check_block_io(resources.block_io, f"{json_path}.blockIO")
    for i, limit in enumerate(resources.hugepage_limits):
        _check_hugepage_limit(limit, f"{json_path}.hugepageLimits[{i}]")
    for device, rdma in resources.rdma.items():
        _check_rdma(device, rdma, entry(f"{json_path}.rdma", device))
    for file in resources.unified:
        _check_unified_file(file, entry(f"{json_path}.unified", file))


def _check_device_rule(rule: DeviceCgroupRule, json_path: str) -> None:
    # what more a rule could deny is denied instead; more to allow there is not
    if rule.allow and rule.access is not None and rule.access.strip("rwm"):
        raise Refused(f"{json_path}.access", f"{quote(rule.access)} has letters other than r, w, m")


def _check_memory(memory: Memory, json_path: str) -> None:
    # zero is how engines write "not set"
    if memory.limit is not None and memory.swap is not None and 0 < memory.swap < memory.limit:
        raise Refused(f"{json_path}.swap", f"is {memory.swap}, which is memory and swap together, but below the limit "
                      f"{memory.limit}")


def _check_cpu(cpu: CPU, json_path: str) -> None:
    if cpu.quota is not None and 0 < cpu.quota < _SHORTEST_QUOTA_US:
        raise Refused(f"{json_path}.quota", f"is {cpu.quota}, but must be -1 or at least {_SHORTEST_QUOTA_US}")
    if cpu.period and not _SHORTEST_QUOTA_US <= cpu.period <= _LONGEST_PERIOD_US:
        raise Refused(f"{json_path}.period",
                      f"is {cpu.period}, but must be {_SHORTEST_QUOTA_US} to {_LONGEST_PERIOD_US}")
    check_uint64(cpu.burst, f"{json_path}.burst")
    if cpu.burst is not None and cpu.quota is not None and 0 < cpu.quota < cpu.burst:
        raise Refused(f"{json_path}.burst", f"is {cpu.burst}, above the quota {cpu.quota}")
    check_uint64(cpu.realtime_period, f"{json_path}.realtimePeriod")
    if cpu.realtime_runtime is not None and cpu.realtime_period and cpu.realtime_runtime > cpu.realtime_period:
        raise Refused(f"{json_path}.realtimeRuntime", f"is {cpu.realtime_runtime}, above the period {cpu.realtime_period}")
    check_number_list(cpu.cpus, f"{json_path}.cpus")
    check_number_list(cpu.mems, f"{json_path}.mems")


def _check_block_io(block_io: BlockIO, json_path: str) -> None:
    for i, device in enumerate(block_io.weight_device):
        if device.weight is None and device.leaf_weight is None:
            raise Refused(f"{json_path}.weightDevice[{i}]", "needs a weight or a leafWeight")
    for name, throttles in (("throttleReadBpsDevice", block_io.throttle_read_bps_device),
                            ("throttleWriteBpsDevice", block_io.throttle_write_bps_device),
                            ("throttleReadIOPSDevice", block_io.throttle_read_iops_device),
                            ("throttleWriteIOPSDevice", block_io.throttle_write_iops_device)):
        for i, throttle in enumerate(throttles):
            check_uint64(throttle.rate, f"{json_path}.{name}[{i}].rate")


def _check_hugepage_limit(limit: HugepageLimit, json_path: str) -> None:
    size = limit.page_size
    digits, unit = size[:-2], size[-2:]
    if unit not in ("KB", "MB", "GB") or not (digits.isascii() and digits.isdecimal()) or digits.startswith("0"):
        raise Refused(f"{json_path}.pageSize", f"{quote(size)} is not a size such as '64KB', '2MB' or '1GB'")
    check_uint64(limit.limit, f"{json_path}.limit")


def _check_rdma(device: str, rdma: Rdma, json_path: str) -> None:
    # the name starts a line of the control file
    if not device or device.split() != [device]:
        raise Refused(json_path, f"{quote(device)} is not the name of a device")
    if rdma.hca_handles is None and rdma.hca_objects is None:
        raise Refused(json_path, "needs hcaHandles or hcaObjects")


def _check_unified_file(file: str, json_path: str) -> None:
    controller, dot, rest = file.partition(".")
    if not (controller and dot and rest) or "/" in file:
        raise Refused(json_path, f"{quote(file)} is not a file of a controller, such as 'memory.high'")
