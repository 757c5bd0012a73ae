"""When and where a container's processes run, as they see it: policies, priorities, CPUs, memory nodes."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, in_thread
from lab import MAPS, NAMESPACES, Lab, namespaces
from probing import Answers, Probe

from pyruntime import StdioOptions
from pyruntime.errors import HookFailedError, SetupError
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged

RESET_ON_FORK = 1
OTHER, FIFO, RR, BATCH, IDLE, DEADLINE = 0, 1, 2, 3, 5, 6
TIMES = {"runtime": 1_000_000, "deadline": 20_000_000, "period": 40_000_000}
USER = {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}


@pytest.fixture(params=["init", "exec", "exec in a shared pid namespace"])
def ask(request: pytest.FixtureRequest, probe: Probe) -> Iterator[Callable[..., Answers]]:
    """Questions to a process that is made in one of the ways there are, with these members of `process`."""

    def as_init(*questions: str, **process: Any) -> Answers:
        return probe.run(*questions, process=process)

    def as_exec(*questions: str, **process: Any) -> Answers:
        shared = {"linux": {"namespaces": namespaces(*(kind for kind in NAMESPACES if kind != "pid"))}}
        probe.lab.sleeper(**(shared if "shared" in request.param else {}))
        try:
            return probe.exec(*questions, **process)
        finally:
            probe.lab.runtime.delete_container("p1", force=True)

    yield as_init if request.param == "init" else as_exec


@contextlib.contextmanager
def realtime() -> Iterator[dict[str, Any]]:
    """The members of `linux` with which a container may have real-time processes, where its cgroup has to be given time for that."""
    files = Path("/sys/fs/cgroup").glob("*/cpu.rt_runtime_us")
    yield {"cgroupsPath": "/p1", "resources": {"cpu": {"realtimeRuntime": 10_000}}} if next(files, None) else {}


# policies


@pytest.mark.conformance(20)
@pytest.mark.parametrize(("scheduler", "policy", "nice"), [
    ({"policy": "SCHED_OTHER"}, OTHER, 0), ({"policy": "SCHED_OTHER", "nice": -20}, OTHER, -20),
    ({"policy": "SCHED_BATCH", "nice": 19}, BATCH, 19), ({"policy": "SCHED_IDLE"}, IDLE, 0),
], ids=["OTHER", "nice", "BATCH", "IDLE"])
def test_policies_of_normal_processes(ask: Callable[..., Answers], scheduler: dict[str, Any], policy: int, nice: int) -> None:
    found = ask("scheduler", "nice", scheduler=scheduler)
    assert (found.scheduler.policy, found.scheduler.nice, found.scheduler.flags) == (policy, nice, 0)


@pytest.mark.conformance(20)
@pytest.mark.parametrize("flags", [[], ["SCHED_FLAG_RESET_ON_FORK"]], ids=["kept at a fork", "reset at a fork"])
@pytest.mark.parametrize(("name", "policy", "priority"), [("SCHED_FIFO", FIFO, 7), ("SCHED_RR", RR, 1)])
def test_real_time_policies(probe: Probe, name: str, policy: int, priority: int, flags: list[str]) -> None:
    """Of the container's process and, since no other is given, of a further one."""
    scheduler = {"policy": name, "priority": priority, "flags": flags}
    with realtime() as linux:
        probe.lab.sleeper(process={"scheduler": scheduler}, linux=linux)
        for found in (probe.exec("scheduler"), probe.exec("scheduler", scheduler=scheduler)):
            assert (found.scheduler.policy, found.scheduler.priority) == (policy, priority)
            assert found.scheduler.flags == (RESET_ON_FORK if flags else 0)
        probe.lab.runtime.delete_container("p1", force=True)
        assert probe.run("scheduler", process={"scheduler": scheduler}, linux=linux).scheduler == found.scheduler


@pytest.mark.conformance(20)
def test_real_time_needs_time_of_the_cgroup(lab: Lab) -> None:
    with realtime() as linux:
        if not linux:
            return
        with pytest.raises(SetupError) as raised:
            lab.create("true", process={"scheduler": {"policy": "SCHED_RR", "priority": 1}})
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == ("set scheduler", "SCHED_RR", "EPERM", "$.process.scheduler")
    assert "realtimeRuntime" in str(error) and not lab.runtime.container_exists("p1")


@pytest.mark.conformance(20)
def test_deadline(ask: Callable[..., Answers]) -> None:
    """With the reset a process that shares the caller's narrow affinity may have it too: the kernel wants it to run everywhere."""
    first = min(os.sched_getaffinity(0))

    def narrowly() -> Answers:
        os.sched_setaffinity(0, {first})
        return ask("scheduler", "affinity", scheduler={"policy": "SCHED_DEADLINE", **TIMES, "flags": ["SCHED_FLAG_RECLAIM"]})

    found = in_thread(narrowly)
    assert (found.scheduler.policy, found.scheduler.runtime, found.scheduler.deadline, found.scheduler.period) == (DEADLINE, *TIMES.values())
    assert found.scheduler.flags == 2
    assert found.affinity == os.sched_getaffinity(0)


@pytest.mark.conformance(20)
def test_deadlines_that_the_kernel_refuses(lab: Lab) -> None:
    before = HostSnapshot.take(lab.root)
    hours = {"runtime": 3_600_000_000_000, "deadline": 7_200_000_000_000}
    for times, errno_name, said in ((hours, "EINVAL", "sched_deadline_period_max_us"), (TIMES, "EBUSY", "not so much time"),
                                    (TIMES, "EPERM", "every CPU")):
        bundle = lab.bundle("true", process={"scheduler": {"policy": "SCHED_DEADLINE", **times}})

        def create(path: str = bundle) -> None:
            lab.runtime.create_container("p1", path, StdioOptions())

        with pytest.raises(SetupError) as raised:
            create() if times is hours else Fault("sched_setattr", errno_name).during(create)
        assert (raised.value.step, raised.value.errno_name) == ("set scheduler", errno_name) and said in str(raised.value)
        assert HostSnapshot.take(lab.root).differences(before) == []


@pytest.mark.conformance(20)
def test_a_deadline_process_cannot_fork_unless_that_resets(lab: Lab) -> None:
    """So that its hooks cannot be executed; what that means is told."""
    hooks = {"startContainer": [{"path": "/bin/true"}]}
    scheduler = {"policy": "SCHED_DEADLINE", **TIMES}
    lab.create("true", process={"scheduler": scheduler}, hooks=hooks)
    with pytest.raises(HookFailedError) as raised:
        lab.runtime.start_container("p1")
    assert (raised.value.errno_name, raised.value.json_path) == ("EAGAIN", "$.hooks.startContainer[0].path")
    assert lab.run("echo ran", process={"scheduler": {**scheduler, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}}, hooks=hooks) == "ran\n"


@pytest.mark.conformance(20)
def test_flags_that_keep(lab: Lab, probe: Probe) -> None:
    """What the process has by now, which is the caller's."""
    def nicely() -> Answers:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 9)
        return probe.run("scheduler", process={"scheduler": {"policy": "SCHED_BATCH", "nice": 3, "flags": flags}})

    flags = ["SCHED_FLAG_KEEP_POLICY"]
    found = in_thread(nicely).scheduler
    assert (found.policy, found.nice) == (OTHER, 3)
    flags = ["SCHED_FLAG_KEEP_PARAMS"]
    found = in_thread(nicely).scheduler
    assert (found.policy, found.nice) == (OTHER, 9)  # the kernel counts the policy among the parameters


@pytest.mark.conformance(20)
@pytest.mark.parametrize("flag", ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"])
def test_utilization_clamps(lab: Lab, probe: Probe, flag: str) -> None:
    scheduler = {"policy": "SCHED_OTHER", "flags": [flag]}
    if Path("/proc/sys/kernel/sched_util_clamp_min").exists():
        assert probe.run("scheduler", process={"scheduler": scheduler}).scheduler.policy == OTHER
        return
    with pytest.raises(SetupError) as raised:
        lab.create("true", process={"scheduler": scheduler})
    assert raised.value.errno == errno.EOPNOTSUPP and "clamps" in str(raised.value)


@pytest.mark.conformance(20, 21)
def test_in_a_user_namespace(reachable: Lab, probe: Probe) -> None:
    """Whose root has no right to it: the runtime has."""
    scheduler, priority = {"policy": "SCHED_OTHER", "nice": -7}, {"class": "IOPRIO_CLASS_RT", "priority": 3}
    process = {"scheduler": scheduler, "ioPriority": priority, "user": {"uid": 5, "gid": 6}}
    reachable.sleeper(process=process, **USER)
    found = probe.exec("scheduler", "io_priority", "ids", user={"uid": 7, "gid": 8})
    reachable.runtime.delete_container("p1", force=True)
    first = probe.run("scheduler", "io_priority", "ids", process=process, **USER)
    for answers, uid in ((found, 7), (first, 5)):
        assert (answers.scheduler.nice, answers.io_priority.io_class, answers.io_priority.level, answers.ids.uid[0]) == (-7, 1, 3, uid)


@pytest.mark.conformance(20)
def test_without_a_scheduler_it_is_the_callers(ask: Callable[..., Answers]) -> None:
    """As with runc and crun: a container of a nice caller is nice."""
    def nicely() -> Answers:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 9)
        return ask("scheduler")

    assert (in_thread(nicely).scheduler.nice, ask("scheduler").scheduler.nice) == (9, 0)


@pytest.mark.conformance(20, 21)
@pytest.mark.parametrize(("call", "process", "step", "path", "json_path"), [
    ("sched_setattr", {"scheduler": {"policy": "SCHED_IDLE"}}, "set scheduler", "SCHED_IDLE", "scheduler"),
    ("ioprio_set", {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}}, "set I/O priority", "IOPRIO_CLASS_BE", "ioPriority"),
], ids=["scheduler", "ioPriority"])
def test_nothing_is_left_where_it_cannot_be_set(lab: Lab, call: str, process: dict[str, Any], step: str, path: str, json_path: str) -> None:
    before = HostSnapshot.take(lab.root)
    with pytest.raises(SetupError) as raised:
        Fault(call, "EPERM").during(lambda: lab.create("true", process=process))
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == (step, path, "EPERM", f"$.process.{json_path}")
    assert HostSnapshot.take(lab.root).differences(before) == []
    lab.sleeper()
    before = HostSnapshot.take(lab.root)
    with pytest.raises(SetupError) as raised:
        Fault(call, "EPERM").during(lambda: lab.exec("true", **process))
    assert (raised.value.step, raised.value.path, raised.value.json_path) == (step, path, f"$.{json_path}")
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []


@pytest.mark.conformance(20, 21)
def test_beside_everything_else_that_is_waited_for(lab: Lab, probe: Probe) -> None:
    """Hooks of the host, a terminal, the first process's end where processes are limited, a successor in a pid namespace that is joined."""
    scheduler = {"policy": "SCHED_BATCH", "nice": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    process = {"scheduler": scheduler, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}, "terminal": True}
    hook = [{"path": "/bin/true"}]
    changes = {"process": process, "hooks": {"createRuntime": hook, "createContainer": hook, "startContainer": hook, "poststart": hook},
               "linux": {"resources": {"pids": {"limit": 3}}}}
    questions = ("scheduler", "io_priority", "terminal", "process")
    pid = lab.sleeper("p2", **changes)
    joined = {"namespaces": namespaces(*(kind for kind in NAMESPACES if kind != "pid"), pid=f"/proc/{pid}/ns/pid")}
    answers = [probe.exec(*questions, id="p2", stdio=StdioOptions(), **{**process, "scheduler": None}),
               probe.run(*questions, stdio=StdioOptions(), **{**changes, "linux": joined}),
               probe.run(*questions, stdio=StdioOptions(), **changes)]
    for found in answers:
        assert (found.scheduler.policy, found.scheduler.nice, found.scheduler.flags) == (BATCH, 4, RESET_ON_FORK)
        assert (found.io_priority.io_class, found.io_priority.level, found.terminal.controls) == (2, 7, True)
    assert [found.process.pid == 1 for found in answers] == [False, False, True]


# I/O


@pytest.mark.conformance(21)
@pytest.mark.parametrize(("name", "number"), [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)])
def test_io_priority(ask: Callable[..., Answers], name: str, number: int) -> None:
    found = ask("io_priority", ioPriority={"class": name, "priority": 5}, user={"uid": 3, "gid": 4}).io_priority
    assert (found.io_class, found.level) == (number, 5)


# CPUs


@pytest.mark.conformance(22)
def test_the_callers_affinity_is_not_inherited(ask: Callable[..., Answers]) -> None:
    every = os.sched_getaffinity(0)

    def narrowly() -> Answers:
        os.sched_setaffinity(0, {min(every)})
        return ask("affinity")

    assert len(every) > 1, "nothing can be seen with one CPU"
    assert in_thread(narrowly).affinity == every


@pytest.mark.conformance(22)
def test_the_cpuset_counts(lab: Lab, probe: Probe) -> None:
    last = max(os.sched_getaffinity(0))
    linux = {"resources": {"cpu": {"cpus": str(last)}}}
    lab.sleeper(linux=linux)
    assert probe.exec("affinity").affinity == {last}
    lab.runtime.delete_container("p1", force=True)
    assert probe.run("affinity", linux=linux).affinity == {last}


@pytest.mark.conformance(22)
@pytest.mark.parametrize("pid_namespace", ["new", "shared"])
def test_affinity_of_a_further_process(lab: Lab, probe: Probe, pid_namespace: str) -> None:
    every = sorted(os.sched_getaffinity(0))
    first, last = {every[0]}, {every[-1]}
    kinds = [kind for kind in NAMESPACES if kind != "pid" or pid_namespace == "new"]
    of_container = {"execCPUAffinity": {"final": str(every[0])}}
    lab.sleeper(linux={"namespaces": namespaces(*kinds)}, process=of_container)
    cgroups = probe.exec("cgroups").cgroups
    for affinity, expected in (({"initial": f"{every[0]}", "final": f"{every[-1]}"}, last), ({"final": f"{every[-1]},4000"}, last),
                               ({"initial": f"{every[0]}-{every[-1]}"}, set(every)), (None, first)):
        found = probe.exec("affinity", "cgroups", **({"execCPUAffinity": affinity} if affinity else {}))
        assert (found.affinity, found.cgroups) == (expected, cgroups), affinity
    lab.runtime.delete_container("p1", force=True)
    # and of the first process it says nothing
    assert probe.run("affinity", process=of_container).affinity == set(every)


@pytest.mark.conformance(22)
def test_a_further_process_begins_where_it_is_told(lab: Lab, probe: Probe) -> None:
    """Before it is in the cgroup, whose cpuset does not allow it."""
    every = sorted(os.sched_getaffinity(0))
    lab.sleeper(linux={"resources": {"cpu": {"cpus": str(every[-1])}}})
    assert probe.exec("affinity", execCPUAffinity={"initial": str(every[0]), "final": str(every[-1])}).affinity == {every[-1]}
    with pytest.raises(SetupError) as raised:
        probe.exec("affinity", execCPUAffinity={"final": str(every[0])})
    assert (raised.value.step, raised.value.path, raised.value.json_path) == ("set affinity", str(every[0]), "$.execCPUAffinity.final")


@pytest.mark.conformance(22)
def test_a_further_process_that_joins_late_is_ended_with_the_container(lab: Lab) -> None:
    first = min(os.sched_getaffinity(0))
    lab.sleeper()
    process = {"args": ["/bin/sleep", "1000"], "cwd": "/", "execCPUAffinity": {"initial": str(first)}}
    pid = lab.runtime.exec_process("p1", process, StdioOptions())
    assert pid in {found.pid for found in lab.runtime.get_all_container_processes("p1")}
    lab.runtime.delete_container("p1", force=True)
    assert not Path(f"/proc/{pid}").exists()


# memory nodes and execution domain


@pytest.mark.conformance(48)
@pytest.mark.parametrize(("policy", "expected"), [
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, (2, 1 << 15, [0])),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, (3, 1 << 14, [0])),
    ({"mode": "MPOL_PREFERRED", "nodes": "0"}, (1, 0, [0])), ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, (5, 0, [0])),
    ({"mode": "MPOL_LOCAL"}, (4, 0, [])), ({"mode": "MPOL_DEFAULT"}, (0, 0, [])),
    ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, (2, 1 << 13, [0])),
], ids=lambda value: value["mode"] if isinstance(value, dict) else "")
def test_memory_policy(lab: Lab, probe: Probe, policy: dict[str, Any], expected: tuple[int, int, list[int]]) -> None:
    linux = {"memoryPolicy": policy}
    lab.sleeper(linux=linux)
    found = probe.exec("memory_policy").memory_policy
    lab.runtime.delete_container("p1", force=True)
    assert (found.mode, found.flags, found.nodes) == expected
    assert probe.run("memory_policy", linux=linux).memory_policy == found


@pytest.mark.conformance(48)
def test_a_memory_policy_with_nodes_that_there_are_not(lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "900"}})
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("set memory policy", "EINVAL", "$.linux.memoryPolicy")
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(55)
@pytest.mark.parametrize(("domain", "number"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(lab: Lab, probe: Probe, domain: str, number: int) -> None:
    """Though the filter forbids it."""
    linux = {"personality": {"domain": domain}, "seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}]}}
    machine = os.uname().machine if domain == "LINUX" else {"x86_64": "i686", "aarch64": "armv8l"}[os.uname().machine]
    lab.sleeper(linux=linux)
    found = probe.exec("uname", "syscall:personality:0xffffffff")
    assert (found.uname.machine, found.call("personality:0xffffffff")) == (machine, "EPERM")
    lab.runtime.delete_container("p1", force=True)
    first = probe.run("uname", "personality", linux={"personality": {"domain": domain}})
    assert (first.uname.machine, first.number("personality")) == (machine, number)
