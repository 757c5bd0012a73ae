"""For every field: what it contradicts, with the JSON path of the error, or why it cannot contradict anything.

Fields are found by walking the structs, so a new one fails here until it is in one of the two tables.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pytest
from spec_examples import Place, full, load, put, small
from test_plan_fields import DIRECTORIES, V1, V2, all_fields, filter_of, msgspec_structs

from pyruntime.errors import InvalidBundleError
from pyruntime.host import Host
from pyruntime.native.seccomp import compile_filter
from pyruntime.plan.compile import compile
from pyruntime.plan.seccomp import filter_source


class Case(NamedTuple):
    """What is put where in a configuration, the path of the error, and the fields that contradict each other, by attribute."""

    json_path: str
    changes: dict[Place, object]
    fields: str
    base: Any = small


def namespaces(*types: str) -> list[dict[str, str]]:
    return [{"type": name} for name in types]


LINUX, PROCESS = ("linux",), ("process",)
RESOURCES, SECCOMP = ("linux", "resources"), ("linux", "seccomp")
SPACES = (*LINUX, "namespaces")
ALL = ("pid", "network", "ipc", "uts", "mount")
MAPPING = {"containerID": 0, "hostID": 1000, "size": 10}
MAPPED = {"uidMappings": [MAPPING], "gidMappings": [MAPPING]}
DEVICE = {"path": "/dev/a", "type": "c", "major": 1, "minor": 3}
LIMIT = {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000}
ALLOW: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}


def seccomp(**members: Any) -> dict[Place, object]:
    return {SECCOMP: {**ALLOW, **members}}


def conditions(*args: tuple[int, str, int]) -> dict[Place, object]:
    """Of one rule: argument, operator, value."""
    rule = {"names": ["socket"], "action": "SCMP_ACT_LOG",
            "args": [{"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": 1} for index, op, value in args]}
    return seccomp(syscalls=[rule])


CONTRADICTIONS = [
    # namespaces, and what needs one
    Case("$.hostname", {SPACES: namespaces("mount")}, "Spec.hostname Namespace.type"),
    Case("$.domainname", {("domainname",): "x", ("hostname",): None, SPACES: namespaces("mount")}, "Spec.domainname"),
    Case('$.linux.sysctl["kernel.domainname"]', {("domainname",): "x", (*LINUX, "sysctl"): {"kernel.domainname": "y"}}, "Linux.sysctl"),
    Case('$.linux.sysctl["kernel.hostname"]', {(*LINUX, "sysctl"): {"kernel.hostname": "y"}}, ""),
    Case('$.linux.sysctl["net.core.somaxconn"]', {SPACES: namespaces("mount", "uts"), (*LINUX, "sysctl"): {"net.core.somaxconn": "1"}}, ""),
    Case("$.linux.namespaces[5].type", {SPACES: namespaces(*ALL, "ipc")}, "Namespace.type"),
    Case("$.linux.maskedPaths", {SPACES: namespaces("uts")}, "Linux.masked_paths"),
    Case("$.linux.readonlyPaths", {SPACES: namespaces("uts"), (*LINUX, "maskedPaths"): []}, "Linux.readonly_paths"),
    Case("$.linux.namespaces", {SPACES: [*namespaces("uts"), {"type": "user", "path": "/proc/7/ns/user"}]}, "Namespace.path"),
    Case("$.linux.netDevices", {SPACES: namespaces("mount", "uts"), (*LINUX, "netDevices"): {"eth0": {}}}, "Linux.net_devices"),
    Case('$.linux.netDevices["b"].name', {(*LINUX, "netDevices"): {"a": {"name": "x"}, "b": {"name": "x"}}}, "NetDevice.name"),
    Case("$.linux.timeOffsets", {(*LINUX, "timeOffsets"): {"boottime": {"secs": 1}}}, "TimeOffset.secs TimeOffset.nanosecs"),
    Case("$.linux.timeOffsets", {SPACES: [*namespaces(*ALL), {"type": "time", "path": "/proc/7/ns/time"}],
                                 (*LINUX, "timeOffsets"): {"boottime": {"secs": 1}}}, "Namespace.path"),
    Case("$.linux.uidMappings", {(*LINUX, "uidMappings"): [MAPPING]}, "Linux.uid_mappings"),
    Case("$.linux.gidMappings", {SPACES: namespaces(*ALL, "user"), (*LINUX, "uidMappings"): [MAPPING]}, "Linux.gid_mappings"),
    *(Case(f"$.linux.uidMappings[1].{path}", {(*LINUX, "uidMappings", 1): {**MAPPING, **changes}}, f"IDMapping.{field}", full)
      for field, path, changes in (("container_id", "containerID", {"hostID": 1}), ("size", "size", {"containerID": 2**32 - 5}),
                                   ("host_id", "hostID", {"containerID": 2**20, "hostID": 100000}))),
    *(Case(f"$.process.user.{path}", {(*PROCESS, "user", name): value}, f"User.{field}", full) for field, path, name, value in (
        ("uid", "uid", "uid", 65536), ("gid", "gid", "gid", 65536), ("additional_gids", "additionalGids[0]", "additionalGids", [65536]))),
    # other platforms
    *(Case(f"$.{name}", {(name,): section}, f"Spec.{name}") for name, section in (
        ("freebsd", {}), ("solaris", {}), ("vm", {"kernel": {"path": "/k"}}), ("windows", {"layerFolders": ["x"]}), ("zos", {}))),
    Case("$.process.commandLine", {(*PROCESS, "commandLine"): "x"}, "Process.command_line"),
    Case("$.process.user.username", {(*PROCESS, "user", "username"): "x"}, "User.username"),
    # mounts
    Case("$.mounts[0].source", {("mounts", 0): {"destination": "/x", "options": ["bind"]}}, "Mount.source Mount.options"),
    Case("$.mounts[0].gidMappings", {("mounts", 0, "gidMappings"): []}, "Mount.uid_mappings Mount.gid_mappings", full),
    Case("$.mounts[0].uidMappings", {("mounts", 0): {"destination": "/x", "options": ["remount"], **MAPPED}},
         "Mount.uid_mappings Mount.options"),
    Case("$.mounts[0].options[0]", {("mounts", 0): {"destination": "/x", "type": "proc", "options": ["tmpcopyup"]}},
         "Mount.type Mount.options"),
    # the process
    Case("$.process.args", {(*PROCESS, "args"): []}, "Process.args"),
    Case("$.process.rlimits[1].type", {(*PROCESS, "rlimits"): [LIMIT, LIMIT]}, "Rlimit.type"),
    Case("$.process.rlimits[0].soft", {(*PROCESS, "rlimits"): [{**LIMIT, "soft": 3}]}, "Rlimit.soft Rlimit.hard"),
    *(Case(f"$.process.consoleSize.{name}", {(*PROCESS, "consoleSize", name): 2**16}, f"ConsoleSize.{name} Process.terminal", full)
      for name in ("height", "width")),
    *(Case(f"$.process.scheduler.{name}", {(*PROCESS, "scheduler"): scheduler}, f"Scheduler.policy Scheduler.{name}") for name, scheduler in (
        ("priority", {"policy": "SCHED_FIFO"}), ("priority", {"policy": "SCHED_BATCH", "priority": 1}),
        ("runtime", {"policy": "SCHED_OTHER", "runtime": 1}), ("deadline", {"policy": "SCHED_OTHER", "deadline": 1}),
        ("period", {"policy": "SCHED_OTHER", "period": 1}), ("deadline", {**DEADLINE, "deadline": 1999}),
        ("period", {**DEADLINE, "period": 2999}))),
    # devices, memory policy, cgroups
    Case("$.linux.devices[1].path", {(*LINUX, "devices"): [DEVICE, DEVICE]}, "Device.path"),
    Case("$.linux.devices[0].major", {(*LINUX, "devices"): [{**DEVICE, "type": "p"}]}, "Device.type Device.major"),
    Case("$.linux.devices[0].minor", {(*LINUX, "devices"): [{**DEVICE, "minor": None}]}, "Device.type Device.minor"),
    Case("$.linux.memoryPolicy.nodes", {(*LINUX, "memoryPolicy"): {"mode": "MPOL_LOCAL", "nodes": "0"}},
         "MemoryPolicy.mode MemoryPolicy.nodes"),
    *(Case("$.linux.memoryPolicy.flags[0]", {(*LINUX, "memoryPolicy"): {"flags": [f"MPOL_F_{flag}"], **policy}}, "MemoryPolicy.flags")
      for flag, policy in (("STATIC_NODES", {"mode": "MPOL_PREFERRED"}), ("NUMA_BALANCING", {"mode": "MPOL_INTERLEAVE", "nodes": "0"}))),
    Case("$.linux.cgroupsPath", {(*LINUX, "cgroupsPath"): "system.slice:x:y"}, "Linux.cgroups_path"),
    Case("$.linux.resources.memory.swap", {RESOURCES: {"memory": {"limit": 2, "swap": 1}}}, "Memory.limit Memory.swap"),
    Case("$.linux.resources.cpu.burst", {RESOURCES: {"cpu": {"quota": 1000, "burst": 1001}}}, "CPU.quota CPU.burst"),
    Case("$.linux.resources.cpu.shares", {RESOURCES: {"cpu": {"shares": 2, "idle": 1}}}, "CPU.shares CPU.idle"),
    Case("$.linux.resources.cpu.realtimeRuntime", {RESOURCES: {"cpu": {"realtimeRuntime": 2, "realtimePeriod": 1}}},
         "CPU.realtime_runtime CPU.realtime_period"),
    Case("$.linux.resources.blockIO.weightDevice[0]", {RESOURCES: {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}},
         "WeightDevice.weight WeightDevice.leaf_weight"),
    Case('$.linux.resources.rdma["x"]', {RESOURCES: {"rdma": {"x": {}}}}, "Rdma.hca_handles Rdma.hca_objects"),
    # seccomp
    Case("$.linux.seccomp.defaultErrnoRet", seccomp(defaultErrnoRet=1), "Seccomp.default_action Seccomp.default_errno_ret"),
    Case("$.linux.seccomp.listenerPath", {SECCOMP: {"defaultAction": "SCMP_ACT_NOTIFY"}}, "Seccomp.listener_path"),
    Case("$.linux.seccomp.listenerMetadata", seccomp(listenerMetadata="x"), "Seccomp.listener_metadata"),
    Case("$.linux.seccomp.flags[0]", seccomp(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "Seccomp.flags"),
    Case("$.linux.seccomp.syscalls[0].errnoRet", seccomp(syscalls=[{"names": ["getcwd"], "action": "SCMP_ACT_LOG", "errnoRet": 1}]),
         "SyscallRule.action SyscallRule.errno_ret"),
    Case("$.linux.seccomp.syscalls[1]", seccomp(syscalls=[
        {"names": ["socket"], "action": f"SCMP_ACT_{action}", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]}
        for action in ("LOG", "TRAP")]), "SyscallRule.names SyscallRule.action"),
    Case("$.linux.seccomp.syscalls[0].args[1]", conditions((0, "GE", 1), (0, "LE", 2)), "SyscallArgument.index SyscallArgument.op"),
    Case("$.linux.seccomp.syscalls[0].args[1]", conditions((0, "MASKED_EQ", 1), (0, "MASKED_EQ", 3)),
         "SyscallArgument.value SyscallArgument.value_two"),
]

# why no other field can contradict it
ALONE = {
    "it goes with whatever the others are": """Spec.oci_version Spec.annotations Root.readonly Process.cwd User.umask Process.oom_score_adj
        IOPriority.class_ IOPriority.priority Hook.path Hook.args Hook.env Hook.timeout Linux.rootfs_propagation Personality.domain
        Memory.reservation Memory.kernel Memory.kernel_tcp Memory.swappiness Memory.disable_oom_killer Memory.use_hierarchy
        Memory.check_before_update CPU.period CPU.cpus CPU.mems Pids.limit BlockIO.weight BlockIO.leaf_weight Network.class_id
        IntelRdt.clos_id IntelRdt.enable_monitoring Seccomp.architectures Scheduler.nice Scheduler.flags CPUAffinity.initial
        CPUAffinity.final""",
    "of those that are about the same the last one holds": """Mount.destination Process.env DeviceCgroupRule.allow DeviceCgroupRule.type
        DeviceCgroupRule.major DeviceCgroupRule.minor DeviceCgroupRule.access ThrottleDevice.major ThrottleDevice.minor ThrottleDevice.rate
        WeightDevice.major WeightDevice.minor HugepageLimit.page_size HugepageLimit.limit InterfacePriority.name InterfacePriority.priority
        IntelRdt.schemata IntelRdt.l3_cache_schema IntelRdt.mem_bw_schema Resources.unified""",
    "no value of it is valid": "Personality.flags",
    "it is compared with the host alone": "Root.path Process.apparmor_profile Process.selinux_label Linux.mount_label",
    "the specification wants it warned of": """Capabilities.bounding Capabilities.effective Capabilities.inheritable Capabilities.permitted
        Capabilities.ambient""",
    "what it would contradict is told as a warning": "Device.file_mode Device.uid Device.gid",
    "a filter that needs it to be otherwise is refused where it is executed (test_plan_seccomp.py)": "Process.no_new_privileges",
}


def refusals(config: dict[str, Any]) -> Iterable[InvalidBundleError]:
    """By the loader, by what a filter is made of, or where a plan is compiled."""
    def attempt(host: Host) -> None:
        spec = load(config)
        filter = spec.linux.seccomp
        if filter is not None:
            compile_filter(filter_source(filter))
        compile(spec, host, DIRECTORIES, filter=filter_of(filter, host) if filter is not None else None)

    for host in (V1, V2):
        with pytest.raises(InvalidBundleError) as caught:
            attempt(host)
        yield caught.value


@pytest.mark.parametrize("case", CONTRADICTIONS, ids=lambda case: f"{case.json_path} {case.fields}")
def test_a_contradiction_is_refused_with_its_path(case: Case) -> None:
    config = case.base()
    for place, value in case.changes.items():
        if isinstance(place[-1], int) and place[-1] == len(_at(config, place[:-1])):
            _at(config, place[:-1]).append(copy.deepcopy(value))
        else:
            put(config, place, copy.deepcopy(value))
    assert {error.json_path for error in refusals(config)} == {case.json_path}


def _at(config: Any, place: Place) -> Any:
    for step in place:
        config = config[step]
    return config


def holds_structs(declared: Any) -> bool:
    """Of such a field nothing can be said but of what is in it."""
    return (isinstance(declared, type) and issubclass(declared, msgspec.Struct)) or any(map(holds_structs, typing.get_args(declared)))


def test_there_is_a_word_for_every_field() -> None:
    every = {f"{struct}.{name}" for struct, name in all_fields()}
    hints = {struct.__name__: typing.get_type_hints(struct) for struct in msgspec_structs()}
    needed = {f"{struct}.{name}" for struct, name in all_fields() if not holds_structs(hints[struct][name])}
    contradicting = {field for case in CONTRADICTIONS for field in case.fields.split()}
    alone = [field for fields in ALONE.values() for field in fields.split()]
    assert len(alone) == len(set(alone)) and not set(alone) & contradicting
    said = contradicting | set(alone)
    assert needed <= said <= every, (needed - said, said - every)
