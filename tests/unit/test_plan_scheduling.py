"""Where and when a process runs: what of it is in the plans of a container and of a further process."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest

from pyruntime.cgroups import cgroups_of
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, compile, compile_exec
from pyruntime.plan.operations import Operation, Plan
from pyruntime.plan.scheduling import mask_of
from pyruntime.plan.scheduling_operations import (
    AwaitScheduling,
    SchedulerAttributes,
    Scheduling,
    SetAffinity,
    SetMemoryPolicy,
    SetPersonality,
)
from pyruntime.plan.seccomp import Filter
from pyruntime.runtimes.compiled import ProcessCache, inherited_of
from pyruntime.spec import SchedulerFlag, SchedulerPolicy, decode_process, load_spec
from pyruntime.state import ContainerRecord
from pyruntime.testing.bundles import default_config, merge

V1 = Host((6, 1), (Hierarchy("/cg/cpuset", False, ("cpuset",)), Hierarchy("/cg/memory", False, ("memory", "devices")),
                   Hierarchy("/cg/unified", True)), 0)
V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
PLACE = Place("c", "/b", "/b/rootfs", "/run/c")
FILTER = Filter(b"\0" * 8, 0, False)


def spec_of(**changes: Any) -> Any:
    config = default_config()
    merge(config, changes)
    return load_spec(json.dumps(config).encode())


def plan_of(host: Host = V2, filter: Filter | None = None, **changes: Any) -> Plan:
    return compile(spec_of(**changes), host, PLACE, filter=filter)


def exec_plan(host: Host = V2, namespaces: int = flags.CLONE_NEWPID, filter: Filter | None = None, **process: Any) -> Plan:
    decoded = decode_process({"args": ["sh"], "cwd": "/", **process})
    return compile_exec(decoded, cgroups_of(host, "/c"), namespaces, "c", filter=filter)


def only(plan: Plan, kind: type[Operation]) -> Any:
    (found,) = [operation for operation in plan.init if isinstance(operation, kind)]
    return found


def order(plan: Plan, *kinds: type[Operation]) -> list[type[Operation]]:
    return [type(operation) for operation in plan.init if type(operation) in kinds]


@pytest.mark.parametrize(("numbers", "members"), [
    (None, set()), ("0", {0}), ("0-3,7", {0, 1, 2, 3, 7}), (" 0-1, 64\n", {0, 1, 64}), ("1,1,0-2", {0, 1, 2}), ("63", {63}), ("1500", {1500}),
    ("1023-1025", {1023, 1024, 1025}), ("65535", {65535}),
])
@pytest.mark.conformance(22, 48)
def test_masks(numbers: str | None, members: set[int]) -> None:
    mask = mask_of(numbers)
    assert {i for i in range(len(mask) * 8) if mask[i // 8] >> i % 8 & 1} == members
    assert len(mask) == (8 * (max(members) // 64 + 1) if members else 0)


# CPUs

AFFINITY = (SetAffinity, op.ResetAffinity, op.JoinCgroup)


@pytest.mark.conformance(22)
@pytest.mark.parametrize("host", [V1, V2], ids=["v1", "v2"])
def test_the_callers_affinity_is_not_the_containers(host: Host) -> None:
    """Once it is in the cgroup whose cpuset counts; execCPUAffinity is not for the first process."""
    joins = [op.JoinCgroup] * (2 if host is V1 else 0)
    for changes in ({}, {"process": {"execCPUAffinity": {"initial": "0", "final": "1"}}}):
        assert order(plan_of(host, **changes), *AFFINITY) == [*joins, op.ResetAffinity]
    assert order(exec_plan(host), *AFFINITY) == [*joins, op.ResetAffinity]


@pytest.mark.conformance(22)
@pytest.mark.parametrize("host", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("initial", [None, "0-1"])
@pytest.mark.parametrize("final", [None, "3,2000"])
def test_affinity_of_a_further_process(host: Host, initial: str | None, final: str | None) -> None:
    """With an initial one it is not cloned into the v2 cgroup: it joins when it runs where it is told. Without a final one the kernel says
    what becomes of that."""
    if initial is final is None:
        return
    plan = exec_plan(host, execCPUAffinity={name: text for name, text in (("initial", initial), ("final", final)) if text})
    joins: list[Any] = ["/cg/cpuset/c/tasks", "/cg/memory/c/tasks"] if host is V1 else []
    joins += ["/cg/unified/c/cgroup.procs" if host is V1 else "/cg/c/cgroup.procs"] if initial else []
    assert (plan.cgroup is None, plan.is_relayed) == (initial is not None, host is V2 and initial is None)
    expected = [*([("initial", mask_of(initial))] if initial else []), *joins, *([("final", mask_of(final))] if final else [])]
    found = [operation.path.decode() if isinstance(operation, op.JoinCgroup)
             else (operation.json_path.removeprefix("$.execCPUAffinity."), operation.members)
             for operation in plan.init if isinstance(operation, AFFINITY)]
    assert found == expected
    assert {path.decode() for path in (operation.path for operation in plan.child if isinstance(operation, op.OpenTasks))} == set(joins)


@pytest.mark.conformance(22)
@pytest.mark.parametrize("field", ["initial", "final"])
@pytest.mark.parametrize("cpus", ["a", "3-1", "0-", "-1", "0,,1", "0-65536", "99999999999"])
def test_a_list_of_cpus_that_is_none(field: str, cpus: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        exec_plan(execCPUAffinity={field: cpus})
    assert raised.value.json_path == f"$.execCPUAffinity.{field}"
    with pytest.raises(InvalidBundleError) as raised:
        plan_of(process={"execCPUAffinity": {field: cpus}})
    assert raised.value.json_path == f"$.process.execCPUAffinity.{field}"


# policies and priorities

TIMES = {"runtime": 2_000_000, "deadline": 3_000_000, "period": 4_000_000}
POLICIES: dict[str, tuple[dict[str, Any], SchedulerAttributes]] = {
    "SCHED_OTHER": ({"nice": -20}, SchedulerAttributes(0, 0, -20, 0, 0, 0, 0)),
    "SCHED_FIFO": ({"priority": 99}, SchedulerAttributes(1, 0, 0, 99, 0, 0, 0)),
    "SCHED_RR": ({"priority": 1}, SchedulerAttributes(2, 0, 0, 1, 0, 0, 0)),
    "SCHED_BATCH": ({"nice": 19}, SchedulerAttributes(3, 0, 19, 0, 0, 0, 0)),
    "SCHED_IDLE": ({}, SchedulerAttributes(5, 0, 0, 0, 0, 0, 0)),
    "SCHED_DEADLINE": (TIMES, SchedulerAttributes(6, 0, 0, 0, *TIMES.values())),
}


@pytest.mark.conformance(20)
@pytest.mark.parametrize("policy", [policy for policy in SchedulerPolicy if policy != "SCHED_ISO"])
def test_every_policy(policy: str) -> None:
    fields, attributes = POLICIES[policy]
    scheduler = {"policy": policy, **fields}
    assert plan_of(process={"scheduler": scheduler}).scheduling == Scheduling("$.process", attributes)
    assert exec_plan(scheduler=scheduler).scheduling == Scheduling("$", attributes)


@pytest.mark.conformance(20)
def test_a_policy_that_linux_has_not() -> None:
    scheduler = {"policy": "SCHED_ISO"}
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(process={"scheduler": scheduler})
    assert raised.value.json_path == "$.process.scheduler.policy"
    with pytest.raises(UnsupportedFieldError) as raised:
        exec_plan(scheduler=scheduler)
    assert raised.value.json_path == "$.scheduler.policy"


@pytest.mark.conformance(20)
def test_every_flag() -> None:
    numbers = {}
    for flag in SchedulerFlag:
        scheduling = exec_plan(scheduler={"policy": "SCHED_OTHER", "flags": [flag]}).scheduling
        assert scheduling is not None and scheduling.scheduler is not None
        numbers[flag.removeprefix("SCHED_FLAG_")] = scheduling.scheduler.flags
    assert numbers == {"RESET_ON_FORK": 1, "RECLAIM": 2, "DL_OVERRUN": 4, "KEEP_POLICY": 8, "KEEP_PARAMS": 16, "UTIL_CLAMP_MIN": 32,
                       "UTIL_CLAMP_MAX": 64}
    together = exec_plan(scheduler={"policy": "SCHED_OTHER", "flags": list(SchedulerFlag)}).scheduling
    assert together is not None and together.scheduler is not None and together.scheduler.flags == 127


@pytest.mark.conformance(21)
@pytest.mark.parametrize(("name", "number"), [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)])
@pytest.mark.parametrize("level", [0, 7])
def test_io_priority(name: str, number: int, level: int) -> None:
    priority = {"class": name, "priority": level}
    plan = plan_of(process={"ioPriority": priority})
    assert plan.scheduling == Scheduling("$.process", None, number << 13 | level)
    assert only(plan, AwaitScheduling).json_path == "$.process.ioPriority"
    assert exec_plan(ioPriority=priority).scheduling == Scheduling("$", None, number << 13 | level)


@pytest.mark.conformance(20, 21)
@pytest.mark.parametrize("process", [{"scheduler": {"policy": "SCHED_IDLE"}}, {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 0}}],
                         ids=["scheduler", "ioPriority"])
@pytest.mark.parametrize("may_gain", [True, False])
def test_it_is_set_of_the_process_that_executes(process: dict[str, Any], may_gain: bool) -> None:
    """What is set may be lost with a fork, or keep the process from it; and a filter may forbid to wait."""
    last = (op.SetIdentity, op.EnterPidNamespace, AwaitScheduling, op.InstallFilter, op.AwaitStart, op.ExecuteProgram)
    process = {**process, "noNewPrivileges": not may_gain, "user": {"uid": 1, "gid": 1}}
    expected = [op.SetIdentity, AwaitScheduling, op.AwaitStart, op.InstallFilter, op.ExecuteProgram]
    assert order(plan_of(filter=FILTER, process=process), *last) == expected
    # without a pid namespace of its own others may trace it while it waits for the start
    shared = {"namespaces": [{"type": "mount"}]}
    expected = [op.SetIdentity, AwaitScheduling, *([op.InstallFilter, op.AwaitStart] if may_gain else [op.AwaitStart, op.InstallFilter]),
                op.ExecuteProgram]
    assert order(plan_of(filter=FILTER, hostname=None, process={**process, "capabilities": None}, linux=shared), *last) == expected
    found = order(exec_plan(filter=FILTER, **process), *last)
    early = [op.InstallFilter] if may_gain else []
    late = [] if early else [op.InstallFilter]
    assert found == [op.SetIdentity, *early, op.EnterPidNamespace, AwaitScheduling, *late, op.ExecuteProgram]


@pytest.mark.conformance(20, 21)
def test_nobody_waits_where_nothing_is_said() -> None:
    for plan in (plan_of(), exec_plan()):
        assert plan.scheduling is None and AwaitScheduling not in order(plan, AwaitScheduling)


# memory nodes and execution domain


@pytest.mark.conformance(48)
@pytest.mark.parametrize(("mode", "number"), [
    ("MPOL_DEFAULT", 0), ("MPOL_PREFERRED", 1), ("MPOL_BIND", 2), ("MPOL_INTERLEAVE", 3), ("MPOL_LOCAL", 4), ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
])
def test_every_memory_policy(mode: str, number: int) -> None:
    nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "1-2"}
    plan = plan_of(linux={"memoryPolicy": {"mode": mode, **nodes}})
    members = mask_of(nodes.get("nodes"))
    step = only(plan, SetMemoryPolicy)
    assert step == SetMemoryPolicy("$.linux.memoryPolicy", members, len(members), number)
    assert step.subject() == (f"{mode} 1-2" if nodes else mode)
    assert order(plan, op.JoinCgroup, SetMemoryPolicy, op.SetIdentity, op.AwaitStart) == [SetMemoryPolicy, op.SetIdentity, op.AwaitStart]


@pytest.mark.conformance(48)
@pytest.mark.parametrize(("names", "bits"), [
    (["MPOL_F_NUMA_BALANCING"], 1 << 13), (["MPOL_F_RELATIVE_NODES"], 1 << 14), (["MPOL_F_STATIC_NODES"], 1 << 15),
    (["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"], 5 << 13),
])
def test_every_flag_of_a_memory_policy(names: list[str], bits: int) -> None:
    plan = plan_of(linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": names}})
    assert only(plan, SetMemoryPolicy).mode == bits | 2


@pytest.mark.conformance(48)
@pytest.mark.parametrize(("policy", "place"), [
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}, "flags[1]"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "flags[0]"),
    ({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]}, "flags[0]"),
    ({"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_RELATIVE_NODES"]}, "flags[0]"),
    ({"mode": "MPOL_BIND", "nodes": "70000"}, "nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0-x"}, "nodes"),
])
def test_memory_policies_that_no_kernel_takes(policy: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        spec_of(linux={"memoryPolicy": policy})
    assert raised.value.json_path == f"$.linux.memoryPolicy.{place}"


@pytest.mark.conformance(55)
@pytest.mark.parametrize(("domain", "number"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(domain: str, number: int) -> None:
    """Before a filter, which may forbid it."""
    plan = plan_of(filter=FILTER, process={"noNewPrivileges": False}, linux={"personality": {"domain": domain}})
    assert only(plan, SetPersonality) == SetPersonality("$.linux.personality", number)
    assert order(plan, SetPersonality, op.InstallFilter) == [SetPersonality, op.InstallFilter]
    assert only(plan, SetPersonality).subject() == domain


# what further processes have of the container

OF_PROCESS: dict[str, Any] = {
    "scheduler": {"policy": "SCHED_BATCH", "nice": 5}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
    "execCPUAffinity": {"final": "1"}, "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
}


def record_of(spec: Any) -> ContainerRecord:
    return ContainerRecord("c", "1.3.0", "/b", "/b/rootfs", 1, 2, datetime.datetime.now(datetime.UTC), flags.CLONE_NEWPID, False,
                           cgroups_of(V2, "/c"), inherited=inherited_of(spec))


@pytest.mark.conformance(16, 20, 21, 22, 48, 55)
def test_further_processes_have_what_they_do_not_say() -> None:
    spec = spec_of(process=OF_PROCESS, linux={"memoryPolicy": {"mode": "MPOL_LOCAL"}, "personality": {"domain": "LINUX32"}})
    record = record_of(spec)
    assert msgspec.json.decode(msgspec.json.encode(record), type=ContainerRecord) == record
    process = {"args": ["sh"], "cwd": "/"}
    plan = ProcessCache().compile(process, record, V2, 0).plan
    assert plan.scheduling == Scheduling("$", SchedulerAttributes(3, 0, 5, 0, 0, 0, 0), 2 << 13 | 6)
    assert only(plan, SetAffinity).members == mask_of("1")
    assert (only(plan, SetMemoryPolicy).mode, only(plan, SetPersonality).personality) == (4, 8)
    assert [(limit.soft, limit.hard) for limit in plan.init if isinstance(limit, op.SetRlimit)] == [(1, 2)]
    own = {**process, "scheduler": {"policy": "SCHED_IDLE"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
           "execCPUAffinity": {"initial": "2"}, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}]}
    plan = ProcessCache().compile(own, record, V2, 0).plan
    assert plan.scheduling == Scheduling("$", SchedulerAttributes(5, 0, 0, 0, 0, 0, 0), 3 << 13)
    assert only(plan, SetAffinity).members == mask_of("2")
    assert [limit.resource for limit in plan.init if isinstance(limit, op.SetRlimit)] == [flags.RLIMITS["RLIMIT_NOFILE"]]


def test_nothing_is_recorded_of_a_container_that_says_nothing() -> None:
    spec = spec_of(process={"rlimits": []})
    assert inherited_of(spec) is msgspec.UNSET and b"inherited" not in msgspec.json.encode(record_of(spec))
    assert inherited_of(spec_of(process=None)) is msgspec.UNSET
