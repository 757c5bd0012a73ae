"""Filters that somebody is notified of."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent import Agent
from calls import compile_caller
from faults import Fault
from filter_lab import rule, seccomp
from lab import MAPS, NAMESPACES, Lab, namespaces
from test_exec_and_state import other

from pyruntime import Status, StdioOptions
from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.testing.bundles import without_pid_namespace

EXECVE, MKDIR, CAPSET = 59, 83, 126
CALL = ["/bin/call", str(MKDIR)]


@pytest.fixture
def agent(lab: Lab, tmp_path: Path) -> Iterator[Agent]:
    """Answers mkdir with 77; there is `/bin/call` in the lab's root file system."""
    shutil.copy(compile_caller(tmp_path), lab.rootfs / "bin" / "call")
    with Agent(tmp_path / "agent", {MKDIR: 77}) as listening:
        yield listening
        lab.delete_all()


def notified(agent: Agent, *rules: dict[str, Any], default: str = "ALLOW", **profile: Any) -> dict[str, Any]:
    return seccomp(default, *(rules or (rule(["mkdir"], "NOTIFY"),)), listenerPath=str(agent.path), **profile)


@pytest.mark.conformance(51)
def test_state_and_answers(lab: Lab, agent: Agent) -> None:
    bundle = lab.bundle(["/bin/sleep", "1000"], annotations={"a": "b"}, **notified(agent, listenerMetadata="x\u00e4"))
    pid = lab.runtime.create_container("p1", bundle, StdioOptions())
    assert agent.states == []
    lab.runtime.start_container("p1")
    state = {"ociVersion": "1.0.2", "id": "p1", "pid": pid, "bundle": bundle, "annotations": {"a": "b"}}
    assert agent.told(1) == [{"ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": pid, "metadata": "x\u00e4",
                             "state": {**state, "status": "created"}}]
    process = lab.runtime.exec_process("p1", {"args": CALL, "cwd": "/", "noNewPrivileges": True}, StdioOptions(create_out=True))
    assert lab.read("p1", process) == "77\n"
    assert agent.states[1:] == [{"ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": process, "metadata": "x\u00e4",
                                 "state": {**state, "status": "running"}}]
    assert agent.calls == [MKDIR]


def test_exec_before_the_start(lab: Lab, agent: Agent) -> None:
    """The state that its listener comes with says that the container is created."""
    lab.create(["/bin/sleep", "1000"], stdio=StdioOptions(), process={"capabilities": {}}, **notified(agent))
    process = lab.runtime.exec_process("p1", {"args": CALL, "cwd": "/", "noNewPrivileges": True}, StdioOptions(create_out=True),
                                       allows_created=True)
    assert lab.read("p1", process) == "77\n"
    assert [(state["pid"], state["state"]["status"]) for state in agent.states] == [(process, "created")]
    assert lab.runtime.get_container_state("p1").status is Status.CREATED


@pytest.mark.conformance(51)
def test_no_metadata(lab: Lab, agent: Agent) -> None:
    assert lab.run(CALL, **notified(agent)) == "77\n"
    (state,) = agent.states
    assert "metadata" not in state


@pytest.mark.conformance(51)
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_of_every_call(lab: Lab, agent: Agent, no_new_privileges: bool) -> None:
    """Also those that come before the program."""
    changes = notified(agent, rule(["getppid"], "ALLOW"), default="NOTIFY")
    process = {"noNewPrivileges": no_new_privileges}
    assert lab.run(CALL, process=process, **changes) == "77\n"
    assert EXECVE in agent.calls and MKDIR in agent.calls and (CAPSET in agent.calls) != no_new_privileges
    lab.sleeper(process=process, **changes)
    assert lab.exec(CALL, noNewPrivileges=True) == "77\n"
    assert len(agent.states) == 3


@pytest.mark.conformance(20, 51)
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_where_the_host_sets_the_scheduler_besides(lab: Lab, agent: Agent, no_new_privileges: bool) -> None:
    """The process waits for both, in one order or the other."""
    process = {"noNewPrivileges": no_new_privileges, "scheduler": {"policy": "SCHED_BATCH", "nice": 3}}
    script = f"cut -d ' ' -f 19 /proc/self/stat; exec /bin/call {MKDIR}"
    shared = without_pid_namespace()
    for linux in ({}, shared):
        changes = notified(agent, rule(["sendmsg"], "ALLOW"), rule(["mkdir"], "NOTIFY"))
        changes["linux"] = {**linux, **changes["linux"]}
        assert lab.run(script, process=process, **changes) == "3\n77\n"
        lab.sleeper("p2", process=process, **changes)
        assert lab.exec(script, "p2", noNewPrivileges=no_new_privileges) == "3\n77\n"
        lab.runtime.delete_container("p2", force=True)


@pytest.mark.conformance(51)
def test_exec_without_no_new_privileges(lab: Lab, agent: Agent) -> None:
    """All may be notified of but sendmsg, with which the listener is passed on."""
    for changes in (notified(agent, rule(["sendmsg"], "ALLOW"), rule(["mkdir"], "NOTIFY"), default="NOTIFY"),
                    notified(agent, rule(["sendmsg"], "NOTIFY"))):
        lab.sleeper(**changes)
        if not agent.states[1:]:
            assert lab.exec(CALL) == "77\n"
            assert EXECVE in agent.calls and CAPSET in agent.calls
        else:
            with pytest.raises(UnsupportedFieldError, match="notifies of sendmsg") as caught:
                lab.exec(CALL)
            assert caught.value.json_path == "$.noNewPrivileges"
        lab.runtime.delete_container("p1", force=True)


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("pid", ["host", "joined"])
def test_where_others_see_the_process(lab: Lab, agent: Agent, pid: str, no_new_privileges: bool) -> None:
    first = lab.sleeper("p2")
    changes = notified(agent, rule(["mkdir", "write", "close", "accept4", "capset", "execve"], "NOTIFY"))
    changes["linux"] |= without_pid_namespace() if pid == "host" else {
        "namespaces": namespaces("network", "ipc", "uts", "mount", "cgroup", pid=f"/proc/{first}/ns/pid")}
    process = {"noNewPrivileges": no_new_privileges}
    assert lab.run(CALL, process=process, **changes) == "77\n"
    lab.sleeper(process=process, **changes)
    assert lab.exec(CALL, noNewPrivileges=no_new_privileges) == "77\n"
    assert [state["state"]["status"] for state in agent.states] == (
        ["created", "created", "running"] if no_new_privileges else ["creating", "creating", "running"])


@pytest.mark.conformance(51)
def test_in_a_user_namespace(reachable: Lab, agent: Agent) -> None:
    changes = notified(agent, rule(["mkdir", "execve"], "NOTIFY"))
    changes["linux"] |= {**MAPS, "namespaces": namespaces("user", *NAMESPACES)}
    assert reachable.run(CALL, process={"noNewPrivileges": False}, **changes) == "77\n"


@pytest.mark.conformance(51)
def test_another_process_starts_and_executes(lab: Lab, agent: Agent) -> None:
    lab.create(["/bin/sleep", "1000"], stdio=StdioOptions(), **notified(agent))
    code = ("rt.start_container('p1')\n"
            f"pid = rt.exec_process('p1', {{'args': {CALL}, 'cwd': '/'}}, StdioOptions(create_out=True))\n"
            "print(rt.get_stdio_pipes('p1', pid).out.read()); rt.wait_on_process('p1', pid); rt.delete_process('p1', pid)")
    assert other(lab, code) == "b'77\\n'\n"
    assert [state["state"]["status"] for state in agent.states] == ["created", "running"]


def test_waits_that_only_a_kill_ends(lab: Lab, agent: Agent) -> None:
    assert lab.run(CALL, **notified(agent, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"])) == "77\n"


@pytest.mark.parametrize(("there", "error"), [("nothing", errno.ENOENT), ("file", errno.ENOTSOCK)])
def test_create_without_a_socket(lab: Lab, tmp_path: Path, there: str, error: int) -> None:
    path = tmp_path / "agent"
    if there == "file":
        path.write_text("")
    with pytest.raises(SetupError) as caught:
        lab.create(["/bin/true"], **notified(Agent(path, {})))
    assert (caught.value.step, caught.value.path, caught.value.errno, caught.value.json_path) == (
        "look at listener", str(path), error, "$.linux.seccomp.listenerPath")
    assert not lab.runtime.container_exists("p1")


@pytest.mark.parametrize(("call", "error", "detail"), [
    ("userfaultfd", "EPERM", "userfaultfd, which passing a listener on takes"), ("mmap", "ENOMEM", "mmap"), ("seccomp", "EINVAL", "seccomp")])
def test_a_listener_that_cannot_be_passed_on(lab: Lab, agent: Agent, call: str, error: str, detail: str) -> None:
    arguments = {"mmap": {1: 65536}, "seccomp": {0: 1}, "userfaultfd": {}}[call]
    Fault(call, error, arguments).during(lambda: lab.create(CALL, **notified(agent)))
    with pytest.raises(SetupError) as caught:
        lab.runtime.start_container("p1")
    assert (caught.value.step, caught.value.errno_name, caught.value.json_path, caught.value.detail) == (
        "install filter", error, "$.linux.seccomp", detail)
    assert agent.states == [] and not lab.runtime.container_exists("p1")
    assert lab.run(CALL, **notified(agent)) == "77\n"


@pytest.mark.conformance(51)
def test_nobody_listens(lab: Lab, tmp_path: Path) -> None:
    """Then the program does not run, and the container is removed; an exec leaves nothing."""
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    changes = notified(Agent(path, {}))
    lab.create(["/bin/true"], **changes)
    with pytest.raises(SetupError) as caught:
        lab.runtime.start_container("p1")
    assert (caught.value.step, caught.value.path, caught.value.errno, caught.value.json_path) == (
        "pass on listener", str(path), errno.ECONNREFUSED, "$.linux.seccomp.listenerPath")
    assert not lab.runtime.container_exists("p1")
    path.unlink()
    with Agent(path, {}):
        lab.sleeper(**changes)
        agents = path.rename(tmp_path / "moved")
        for no_new_privileges in (True, False):
            with pytest.raises(SetupError) as caught:
                lab.exec(["/bin/true"], noNewPrivileges=no_new_privileges)
            assert (caught.value.step, caught.value.errno) == ("pass on listener", errno.ENOENT)
        agents.rename(path)
        assert lab.runtime.get_all_container_processes("p1")[1:] == []
        lab.delete_all()
