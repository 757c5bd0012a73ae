"""Resources as writes to cgroup files, on v1 and on v2 (config-linux.md, "Control groups")."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import operations as op
from pyruntime.plan.device_rules import device_program, device_rules, v1_devices
from pyruntime.plan.draft import Draft
from pyruntime.spec import BlockIO, Memory, Network, Resources

PATH = "$.linux.resources"
_V2_CONTROLLERS = b"cpuset cpu io memory hugetlb pids"


def make_cgroups(draft: Draft, cgroups: tuple[Cgroup, ...], resources: Resources | None, *, are_a_units: bool = False) -> None:
    """Make the container's cgroups and set its limits, before there is a process.

    are_a_units   systemd has made them, on v1 some of them, with a process in them
    """
    for cgroup in cgroups:
        # the child is cloned into the v2 one
        where = draft.host if cgroup.is_v2 else draft.sources
        where.append(op.MakeCgroup("$.linux.cgroupsPath", cgroup.path.encode(), cgroup.mount_length,
                                   int("cpuset" in cgroup.controllers), int(are_a_units)))
    unified = all(cgroup.is_v2 for cgroup in cgroups)
    if unified:
        for cgroup in cgroups:
            draft.host.append(op.EnableControllers("$.linux.cgroupsPath", cgroup.path.encode(), _V2_CONTROLLERS,
                                                   cgroup.mount_length))
    limit_devices(draft, cgroups, resources)
    if resources is not None:
        # limits of a v2 cgroup hold before anything is in it
        where = draft.host if unified else draft.sources
        for json_path, file, value in resource_writes(cgroups, resources):
            where.append(op.WriteFile(json_path, file.encode(), (value.encode(),)))


def join_cgroups(draft: Draft, cgroups: tuple[Cgroup, ...], *, by_itself: bool = False) -> None:
    """The child is cloned into the v2 cgroup and moves itself into the others, by files that the host opens meanwhile.

    A migration by cgroup.procs would take the kernel's global lock: 12 ms after the machine was idle. Where the v2 cgroup limits memory,
    who clones has memory of its own: the plan is relayed.

    by_itself   also into the v2 cgroup, by that migration: something has to be done before
    """
    for cgroup in cgroups:
        if cgroup.is_v2 and not by_itself:
            draft.cgroup = draft.host_slot()
            draft.is_relayed = not any("memory" in other.controllers for other in cgroups)
            draft.host.append(op.OpenCgroup("$.linux.cgroupsPath", cgroup.path.encode(), draft.cgroup))
        else:
            name = "cgroup.procs" if cgroup.is_v2 else "tasks"
            tasks, slot = f"{cgroup.path}/{name}".encode(), draft.source_slot()
            draft.sources.append(op.OpenTasks("$.linux.cgroupsPath", tasks, slot))
            draft.init.append(op.JoinCgroup("$.linux.cgroupsPath", tasks, slot))


def limit_devices(draft: Draft, cgroups: tuple[Cgroup, ...], resources: Resources | None) -> None:
    """The list is what is allowed: everything else is denied, whatever the list begins with."""
    rules = device_rules(resources.devices if resources is not None else None)
    json_path = f"{PATH}.devices"
    for cgroup in cgroups:
        if "devices" in cgroup.controllers:
            try:
                devices = v1_devices(rules)
            except ValueError as error:
                raise UnsupportedFieldError(None, json_path, "cgroup v1 has no exceptions from exceptions: "
                                            f"{error.args[0]} takes back a part of an earlier rule") from error
            files = ("devices.allow", "devices.deny") if devices.allows else ("devices.deny", "devices.allow")
            draft.sources.append(op.WriteFile(json_path, f"{cgroup.path}/{files[0]}".encode(), (b"a",)))
            if devices.exceptions:
                draft.sources.append(op.WriteFile(json_path, f"{cgroup.path}/{files[1]}".encode(),
                                                  tuple(line.encode() for line in devices.exceptions)))
            return
    for cgroup in cgroups:
        if cgroup.is_v2:
            program = device_program(rules)
            draft.host.append(op.AttachDeviceProgram(json_path, cgroup.path.encode(), program, len(program)))


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


def limits_pids(resources: Resources | None) -> bool:
    """Whether the number of processes is limited."""
    if resources is None:
        return False
    has_limit = resources.pids is not None and resources.pids.limit is not None and resources.pids.limit >= 0
    return has_limit or "pids.max" in (resources.unified or {})


def resource_writes(cgroups: tuple[Cgroup, ...], resources: Resources) -> Iterator[tuple[str, str, str]]:
    """(JSON path, file, value) of everything but devices, in the order in which the kernel takes them.

    Raises UnsupportedFieldError for what is not executed yet.
    """
    for name in ("block_io", "hugepage_limits", "network", "rdma"):
        value = getattr(resources, name)
        if name == "block_io" and value is not None:
            # Docker writes a weight of 0 where none is asked for
            value = msgspec.structs.replace(value, weight=value.weight or None, leaf_weight=value.leaf_weight or None)
        if value and value not in (BlockIO(), Network()):
            parts = name.split("_")
            field = "blockIO" if name == "block_io" else parts[0] + "".join(part.title() for part in parts[1:])
            raise UnsupportedFieldError(None, f"{PATH}.{field}", "is not executed yet")
    if resources.memory is not None and resources.memory.use_hierarchy is False:
        raise UnsupportedFieldError(None, f"{PATH}.memory.useHierarchy", "is false, but limits hold for what is below a cgroup, "
                                    "on v2 and since Linux 5.11 on v1")
    if resources.cpu is not None and resources.cpu.idle and resources.cpu.shares:
        # whichever is written first, v1 forgets the shares and v2 refuses them
        raise UnsupportedFieldError(None, f"{PATH}.cpu.shares", "cannot hold beside cpu.idle, which is a weight of its own")
    if all(cgroup.is_v2 for cgroup in cgroups):
        for cgroup in cgroups:
            for json_path, name, value in _v2_values(resources):
                yield f"{PATH}.{json_path}", f"{cgroup.path}/{name}", value
    else:
        by_controller = {controller: cgroup for cgroup in cgroups for controller in cgroup.controllers}
        for json_path, controller, name, value in _v1_values(resources):
            cgroup_of = by_controller.get(controller)
            if cgroup_of is None:
                raise UnsupportedFieldError(None, f"{PATH}.{json_path}", f"this host has no v1 cgroup {controller!r}")
            yield f"{PATH}.{json_path}", f"{cgroup_of.path}/{name}", value
        for key, value in (resources.unified or {}).items():
            unified = next((cgroup for cgroup in cgroups if cgroup.is_v2), None)
            if unified is None:
                raise UnsupportedFieldError(None, f'{PATH}.unified["{key}"]', "this host has no v2 cgroup")
            yield f'{PATH}.unified["{key}"]', f"{unified.path}/{key}", value


def _v1_values(resources: Resources) -> Iterator[tuple[str, str, str, str]]:
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    if memory is not None:
        if memory.kernel is not None:
            raise UnsupportedFieldError(None, f"{PATH}.memory.kernel", "the kernel took this limit away")
        # the limit with swap may never be below the one without, so it is first when both grow: both start unlimited
        if memory.limit:
            yield "memory.limit", "memory", "memory.limit_in_bytes", str(memory.limit)
        if memory.swap:
            yield "memory.swap", "memory", "memory.memsw.limit_in_bytes", str(memory.swap)
        if memory.reservation:
            yield "memory.reservation", "memory", "memory.soft_limit_in_bytes", str(memory.reservation)
        if memory.kernel_tcp is not None:
            yield "memory.kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp)
        if memory.swappiness is not None:
            yield "memory.swappiness", "memory", "memory.swappiness", str(memory.swappiness)
        if memory.disable_oom_killer:
            yield "memory.disableOOMKiller", "memory", "memory.oom_control", "1"
    if cpu is not None:
        if cpu.shares:
            yield "cpu.shares", "cpu", "cpu.shares", str(cpu.shares)
        if cpu.period:
            yield "cpu.period", "cpu", "cpu.cfs_period_us", str(cpu.period)
        if cpu.quota:
            yield "cpu.quota", "cpu", "cpu.cfs_quota_us", str(cpu.quota)
        if cpu.burst is not None:
            yield "cpu.burst", "cpu", "cpu.cfs_burst_us", str(cpu.burst)
        if cpu.realtime_period:
            yield "cpu.realtimePeriod", "cpu", "cpu.rt_period_us", str(cpu.realtime_period)
        if cpu.realtime_runtime:
            yield "cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime)
        if cpu.idle is not None:
            yield "cpu.idle", "cpu", "cpu.idle", str(cpu.idle)
        if cpu.cpus:
            yield "cpu.cpus", "cpuset", "cpuset.cpus", cpu.cpus
        if cpu.mems:
            yield "cpu.mems", "cpuset", "cpuset.mems", cpu.mems
    if pids is not None and pids.limit is not None:
        yield "pids.limit", "pids", "pids.max", _maximum(pids.limit)


def _v2_values(resources: Resources) -> Iterator[tuple[str, str, str]]:
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    if memory is not None:
        for name, value in (("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp),
                            ("swappiness", memory.swappiness), ("disableOOMKiller", memory.disable_oom_killer or None)):
            if value is not None:
                raise UnsupportedFieldError(None, f"{PATH}.memory.{name}", "there is no such setting on cgroup v2")
        if memory.limit:
            yield "memory.limit", "memory.max", _maximum(memory.limit)
        if memory.swap:
            yield "memory.swap", "memory.swap.max", swap_alone(memory)
        if memory.reservation:
            yield "memory.reservation", "memory.low", _maximum(memory.reservation)
    if cpu is not None:
        for name, number in (("realtimePeriod", cpu.realtime_period), ("realtimeRuntime", cpu.realtime_runtime)):
            if number:
                raise UnsupportedFieldError(None, f"{PATH}.cpu.{name}", "there is no such setting on cgroup v2")
        if cpu.idle is not None:
            yield "cpu.idle", "cpu.idle", str(cpu.idle)
        if cpu.shares:
            yield "cpu.shares", "cpu.weight", str(cpu_weight(cpu.shares))
        if cpu.quota or cpu.period:
            quota = "max" if not cpu.quota or cpu.quota < 0 else str(cpu.quota)
            yield "cpu.quota" if cpu.quota else "cpu.period", "cpu.max", f"{quota} {cpu.period or 100000}"
        if cpu.burst is not None:
            yield "cpu.burst", "cpu.max.burst", str(cpu.burst)
        if cpu.cpus:
            yield "cpu.cpus", "cpuset.cpus", cpu.cpus
        if cpu.mems:
            yield "cpu.mems", "cpuset.mems", cpu.mems
    if pids is not None and pids.limit is not None:
        yield "pids.limit", "pids.max", _maximum(pids.limit)
    for key, value_text in (resources.unified or {}).items():
        yield f'unified["{key}"]', key, value_text


def swap_alone(memory: Memory) -> str:
    """The specification's value is memory and swap together, as on v1."""
    swap = memory.swap or 0
    if swap < 0:
        return "max"
    if not memory.limit or memory.limit < 0:
        raise UnsupportedFieldError(None, f"{PATH}.memory.swap",
                                    "is memory and swap together, which cgroup v2 can limit only beside memory.limit")
    return str(swap - memory.limit)


def _maximum(value: int) -> str:
    return "max" if value < 0 else str(value)
