"""A container's cgroups: making them, entering them, and its resources as what is written there (config-linux.md, "Control groups")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import operations as op
from pyruntime.plan.device_rules import Rule, V1Devices, device_program, device_rules, v1_devices
from pyruntime.plan.draft import Draft
from pyruntime.spec import Resources

PATH = "$.linux.resources"
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def make_cgroups(draft: Draft, cgroups: tuple[Cgroup, ...], resources: Resources | None, page_bytes: int, *, are_a_units: bool = False,
                 has_path: bool = False, limits_devices: bool = True) -> None:
    """Make the container's cgroups and set its limits, before there is a process.

    are_a_units      systemd has made them, on v1 some of them, with a process in them
    has_path         they are where the configuration says, below what others may have frozen
    limits_devices   false for who may not; in a user namespace no device can be made
    """
    for cgroup in cgroups:
        # the child is cloned into the v2 one
        where = draft.host if cgroup.is_v2 else draft.sources
        has_freezer = cgroup.is_v2 or "freezer" in cgroup.controllers
        where.append(op.MakeCgroup("$.linux.cgroupsPath", cgroup.path.encode(), cgroup.mount_length,
                                   int("cpuset" in cgroup.controllers), int(are_a_units), (1 + has_path) * has_freezer))
    unified = all(cgroup.is_v2 for cgroup in cgroups)
    wanted = _v2_controllers(resources, unified)
    if wanted:
        for cgroup in cgroups:
            if cgroup.is_v2:
                draft.host.append(op.EnableControllers("$.linux.cgroupsPath", cgroup.path.encode(), " ".join(wanted).encode(),
                                                       cgroup.mount_length))
    if limits_devices:
        limit_devices(draft, cgroups, resources)
    if resources is not None and resources != Resources(devices=resources.devices):
        for write in resource_writes(cgroups, resources, page_bytes):
            # limits of a v2 cgroup hold before anything is in it, but for one that would keep the init out where another process is
            where = draft.sources if not unified else draft.child if are_a_units and write.path.endswith(b"/pids.max") else draft.host
            where.append(write)


def _v2_controllers(resources: Resources | None, unified: bool) -> tuple[str, ...]:
    """What the v2 cgroup's ancestors are to pass on: always what limits are mostly of, and the rest where it is asked for."""
    if resources is None:
        return _V2_CONTROLLERS if unified else ()
    always = _V2_CONTROLLERS if unified else ()
    # what begins with `cgroup` is of none
    asked = {file.partition(".")[0] for file in resources.unified} - {"cgroup"} | ({"rdma"} if resources.rdma and unified else set())
    return (*always, *sorted(asked.difference(always)))


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
            devices = v1_device_list(rules, json_path)
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


def v1_device_list(rules: Sequence[Rule], json_path: str) -> V1Devices:
    """The rules as a v1 cgroup has them. Raises UnsupportedFieldError where it cannot."""
    try:
        return v1_devices(rules)
    except ValueError as error:
        raise UnsupportedFieldError(None, json_path, "cgroup v1 has no exceptions from exceptions: "
                                    f"{error.args[0]} takes back a part of an earlier rule") from error


def limits_pids(resources: Resources | None) -> bool:
    """Whether the number of processes is limited."""
    if resources is None:
        return False
    has_limit = resources.pids is not None and resources.pids.limit is not None and resources.pids.limit >= 0
    return has_limit or "pids.max" in (resources.unified or {})


def limits_memory(resources: Resources | None) -> bool:
    """Whether memory is limited, so that the kernel may kill for it."""
    if resources is None:
        return False
    memory, unified = resources.memory, resources.unified
    return (memory is not None and ((memory.limit or 0) > 0 or (memory.swap or 0) > 0)) or any(
        unified[file].strip() != "max" for file in ("memory.max", "memory.swap.max") if file in unified)


def resource_writes(cgroups: tuple[Cgroup, ...], resources: Resources, page_bytes: int, json_path: str = PATH) -> Iterator[op.WriteFile]:
    """Everything but devices, in the order in which new cgroups take it. json_path: of the resources.

    Raises UnsupportedFieldError for what this host or its version of cgroups has not.
    """
    from pyruntime.plan.resources_v1 import v1_settings  # nothing else needs them
    from pyruntime.plan.resources_v2 import rdma_settings, v2_settings

    if resources.memory is not None and resources.memory.use_hierarchy is False:
        raise UnsupportedFieldError(None, f"{json_path}.memory.useHierarchy", "is false, but limits hold for what is below a cgroup, "
                                    "on v2 and since Linux 5.11 on v1")
    if resources.cpu is not None and resources.cpu.idle and resources.cpu.shares:
        # whichever is written first, v1 forgets the shares and v2 refuses them
        raise UnsupportedFieldError(None, f"{json_path}.cpu.shares", "cannot hold beside cpu.idle, which is a weight of its own")
    unified = next((cgroup for cgroup in cgroups if cgroup.is_v2), None)
    if unified is not None and len(cgroups) == 1:
        for setting in (*v2_settings(resources, json_path, page_bytes), *rdma_settings(resources.rdma)):
            yield setting.operation(json_path, unified.path)
    else:
        by_controller = {controller: cgroup for cgroup in cgroups for controller in cgroup.controllers}
        for setting in (*v1_settings(resources, json_path, page_bytes), *rdma_settings(resources.rdma)):
            cgroup_of = by_controller.get(setting.controller)
            if cgroup_of is None:
                raise UnsupportedFieldError(None, f"{json_path}.{setting.json_path}", f"this host has no v1 cgroup {setting.controller!r}")
            yield setting.operation(json_path, cgroup_of.path)
    # they may be of what was set above, and are what was asked for more exactly
    if not resources.unified:
        return
    from pyruntime.plan.unified import unified_settings  # nearly nobody asks for any

    for setting in unified_settings(resources.unified, page_bytes, json_path):
        if unified is None:
            raise UnsupportedFieldError(None, f"{json_path}.{setting.json_path}", "this host has no v2 cgroup")
        yield setting.operation(json_path, unified.path)
