"""A container's systemd unit: what it is made with, and its resources as properties (systemd.resource-control(5))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyruntime.cgroups.paths import Unit
from pyruntime.cgroups.systemd import Property
from pyruntime.plan.device_rules import Rule
from pyruntime.plan.resources_v2 import cpu_weight, io_weight, swap_alone
from pyruntime.spec import BlockIO, Resources, ThrottleDevice

INFINITY = 2**64 - 1
_DEFAULT_PERIOD_US = 100_000
# systemd keeps a quota as whole percents of a CPU
_QUOTA_STEP_US = 10_000


def unit_properties(unit: Unit, id: str, pids: tuple[int, ...]) -> list[Property]:
    """What a container's unit is made with, apart from its resources.

    pids   of the processes that a scope begins with; a slice has none
    """
    properties: list[Property] = [
        ("Description", ("s", f"pyruntime container {id}")),
        # it ends with the container and not with the system's shutdown
        ("DefaultDependencies", ("b", False)),
        # no trace of it is kept when it has ended
        ("CollectMode", ("s", "inactive-or-failed")),
        *((name, ("b", True)) for name in ("CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting")),
    ]
    if unit.is_slice:
        return properties
    return [*properties, ("Slice", ("s", unit.parent)),
            # what is below its cgroup is the container's
            ("Delegate", ("b", True)), ("PIDs", ("au", list(pids)))]


def resource_properties(resources: Resources, is_unified: bool) -> Iterator[Property]:
    """What systemd has a property for, apart from devices; systemd would undo it if it were written to the cgroup's files alone. The
    files are written as well, since some properties are coarser."""
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    if memory is not None:
        if memory.limit:
            yield "MemoryMax", ("t", _limit(memory.limit))
        if memory.reservation:
            yield "MemoryLow", ("t", _limit(memory.reservation))
        swap = swap_alone(memory, "$.linux.resources") if is_unified else None
        if swap is not None:
            yield "MemorySwapMax", ("t", INFINITY if swap == "max" else int(swap))
    if cpu is not None:
        if cpu.idle:
            yield "CPUWeight", ("t", 0)
        elif cpu.shares:
            yield "CPUWeight", ("t", cpu_weight(cpu.shares))
        if cpu.quota or cpu.period:
            yield from _cpu_quota(cpu.quota or -1, cpu.period)
        if cpu.cpus:
            yield "AllowedCPUs", ("ay", bit_mask(cpu.cpus))
        if cpu.mems:
            yield "AllowedMemoryNodes", ("ay", bit_mask(cpu.mems))
    if pids is not None and pids.limit is not None:
        # systemd knows no 0; where the container's process is, 1 allows no other
        yield "TasksMax", ("t", _limit(pids.limit) or 1)
    if resources.block_io is not None:
        yield from _io(resources.block_io)
    for key, value in resources.unified.items():
        yield from _unified_property(key, value)


# the one that a scope begins with, and the container's init that is cloned into it
_FIRST_TASKS = 2


def with_room_for_init(properties: Iterable[Property]) -> list[Property]:
    """Such that the init can be made while another process holds the unit."""
    return [(name, ("t", _FIRST_TASKS)) if _lacks_room(name, *value) else (name, value) for name, value in properties]


def without_room_for_init(properties: Iterable[Property]) -> list[Property]:
    """Those that are to be set again when the other one has ended."""
    return [(name, value) for name, value in properties if _lacks_room(name, *value)]


def _lacks_room(name: str, signature: str, value: Any) -> bool:
    return name == "TasksMax" and signature == "t" and 0 < value < _FIRST_TASKS


def _io(block_io: BlockIO) -> Iterator[Property]:
    """systemd has one range of weights, that of io.weight, and makes that of the BFQ scheduler from it."""
    if block_io.weight:
        yield "IOWeight", ("t", io_weight(block_io.weight))
    weights = [(f"/dev/block/{device.major}:{device.minor}", io_weight(device.weight)) for device in block_io.weight_device if device.weight]
    if weights:
        yield "IODeviceWeight", ("a(st)", weights)
    for name, devices in (("IOReadBandwidthMax", block_io.throttle_read_bps_device),
                          ("IOWriteBandwidthMax", block_io.throttle_write_bps_device),
                          ("IOReadIOPSMax", block_io.throttle_read_iops_device), ("IOWriteIOPSMax", block_io.throttle_write_iops_device)):
        if devices:
            yield name, ("a(st)", [_rate(device) for device in devices])


def _rate(device: ThrottleDevice) -> tuple[str, int]:
    return f"/dev/block/{device.major}:{device.minor}", device.rate or INFINITY


def _cpu_quota(quota_us: int, period_us: int | None) -> Iterator[Property]:
    if period_us:
        yield "CPUQuotaPeriodUSec", ("t", period_us)
    if quota_us < 0:
        yield "CPUQuotaPerSecUSec", ("t", INFINITY)
        return
    per_second = -(-quota_us * 1_000_000 // (period_us or _DEFAULT_PERIOD_US))
    yield "CPUQuotaPerSecUSec", ("t", -(-per_second // _QUOTA_STEP_US) * _QUOTA_STEP_US)


_UNIFIED_LIMITS = {"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
                   "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax"}
_UNIFIED_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unified_property(key: str, value: str) -> Iterator[Property]:
    """None for a file that systemd has no property for (nearly all of them it leaves alone; memory.oom.group, where the unit's
    property is newer than it, it sets back when it is reloaded); and for a value that is not well formed, which the kernel
    refuses when the file is written."""
    words = value.split()
    if not words:
        return
    try:
        if key in _UNIFIED_LIMITS and len(words) == 1:
            yield _UNIFIED_LIMITS[key], ("t", INFINITY if words[0] == "max" else int(words[0]))
        elif key in _UNIFIED_SETS:
            yield _UNIFIED_SETS[key], ("ay", bit_mask(value))
        elif key == "io.weight" and words[:-1] in ([], ["default"]):
            yield "IOWeight", ("t", int(words[-1]))
        elif key == "cpu.weight" and len(words) == 1:
            yield "CPUWeight", ("t", int(words[0]))
        elif key == "cpu.idle" and words == ["1"]:
            yield "CPUWeight", ("t", 0)
        elif key == "cpu.max" and len(words) in (1, 2):
            yield from _cpu_quota(-1 if words[0] == "max" else int(words[0]), int(words[1]) if len(words) == 2 else None)
    except ValueError:
        return


def _limit(value: int) -> int:
    return INFINITY if value < 0 else value


def bit_mask(text: str) -> bytes:
    """A list such as `0-3,7` as bits, the lowest byte first. Raises ValueError."""
    bits = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        for number in range(int(first), int(last or first) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8 or 1, "little")


def device_properties(rules: tuple[Rule, ...], drivers: Mapping[tuple[str, int], str]) -> list[Property]:
    """What the unit allows, which has only allowances: at least what the rules do. What they take back besides, the container's own
    program denies, which is asked too.

    drivers   names of /proc/devices by type and major number: a rule for every minor number is one for a driver
    """
    allowed: dict[tuple[str, int | None, int | None], set[str]] = {}
    for rule in rules:
        for type in ("c", "b") if rule.type == "a" else (rule.type,):
            key, access = (type, rule.major, rule.minor), set(rule.access)
            if rule.allow:
                allowed[key] = allowed.get(key, set()) | access
            elif rule.major is None and rule.minor is None:
                for other in allowed:
                    if other[0] == type:
                        allowed[other] = allowed[other] - access
            elif key in allowed:
                allowed[key] -= access
    everything = set("rwm")
    if all(allowed.get((type, None, None)) == everything for type in ("c", "b")):
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    entries = []
    for (type, major, minor), access in allowed.items():
        kind = "char" if type == "c" else "block"
        if major is None and minor is None:
            node: str | None = f"{kind}-*"
        elif major is None:
            node = f"{kind}-*"  # systemd knows no single minor number of every driver
        elif minor is None:
            driver = drivers.get((type, major))
            node = f"{kind}-{driver}" if driver is not None else None  # no such device exists
        else:
            node = f"/dev/{kind}/{major}:{minor}"
        if node is not None and access:
            entries.append((node, "".join(letter for letter in "rwm" if letter in access)))
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", entries))]
