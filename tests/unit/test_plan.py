"""Plans, compiled without privileges for hosts made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyruntime.cgroups import cgroups_of
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Manner, Place, compile, compile_exec
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.plan.operations import Plan
from pyruntime.plan.process import may_trace
from pyruntime.spec import decode_process, load_spec
from pyruntime.testing.bundles import default_config, merge

V1 = Host((6, 1), (Hierarchy("/cg/cpu,cpuacct", False, ("cpu", "cpuacct")), Hierarchy("/cg/devices", False, ("devices", "memory")),
                   Hierarchy("/cg/unified", True)), 0)
V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
PLACE = Place("c", "/b", "/b/rootfs", "/run/c")


def plan_of(host: Host = V2, manner: Manner = Manner(), **changes: Any) -> Plan:
    config = default_config()
    merge(config, changes)
    return compile(load_spec(json.dumps(config).encode()), host, PLACE, manner)


def kinds(plan: Plan) -> list[type]:
    return [type(operation) for operation in plan.init]


@pytest.mark.parametrize("host", [V1, V2])
def test_order_of_the_default_plan(host: Host) -> None:
    found = kinds(plan_of(host))
    assert found.index(op.PivotRoot) < found.index(op.AttachMount)
    assert found.index(op.MaskPath) < found.index(op.AwaitStart) < found.index(op.ExecuteProgram) == len(found) - 1
    assert found.count(op.MaskPath) == 10 and found.count(op.ProtectPath) == 5


def test_cgroups_of_both_versions() -> None:
    one, two = plan_of(V1), plan_of(V2)
    assert kinds(one).count(op.JoinCgroup) == 2 and op.JoinCgroup not in kinds(two)
    assert one.cgroup is not None and two.cgroup is not None
    assert any(isinstance(o, op.AttachDeviceProgram) for o in two.host)
    assert not any(isinstance(o, op.AttachDeviceProgram) for o in one.host)


@pytest.mark.parametrize(("controllers", "is_relayed"), [(("memory",), False), (("cpu",), True)], ids=["v1", "v2"])
def test_the_child_is_not_where_memory_is_limited_while_it_shares_the_callers(controllers: tuple[str, ...], is_relayed: bool) -> None:
    """What the kernel kills in a v2 cgroup with a memory controller could be the caller."""
    host = Host((6, 1), (Hierarchy("/cg/v1", False, controllers), Hierarchy("/cg/unified", True)), 0)
    for plan in (plan_of(host), compile_exec(decode_process({"args": ["sh"], "cwd": "/"}), cgroups_of(host, "/c"), 0, "c")):
        assert plan.cgroup is not None and plan.is_relayed is is_relayed
        assert [o.path for o in plan.init if isinstance(o, op.JoinCgroup)] == [f"/cg/v1{path}/tasks".encode() for path in (
            "/c" if plan.clone_flags == 0 else "/pyruntime/c",)]


def test_no_pivot() -> None:
    found = kinds(plan_of(manner=Manner(no_pivot=True)))
    assert op.SwitchRoot in found and op.PivotRoot not in found


def test_keyring_of_the_caller() -> None:
    """Also for what is executed in the container later."""
    process = decode_process({"args": ["x"], "cwd": "/"})
    for keeps in (False, True):
        assert (op.JoinSessionKeyring in kinds(plan_of(manner=Manner(keeps_keyring=keeps)))) is not keeps
        assert (op.JoinSessionKeyring in kinds(compile_exec(process, (), 0, "c", keeps_keyring=keeps))) is not keeps


def test_variables_besides_those_of_the_configuration() -> None:
    """They come last, and are no part of what the plan of a container without a process has."""
    (execute,) = [found for found in plan_of(manner=Manner(environment=("LISTEN_FDS=2",)), process={"env": ["A=1"]}).init
                  if isinstance(found, op.ExecuteProgram)]
    assert execute.environment == (b"A=1", b"LISTEN_FDS=2")
    assert plan_of(manner=Manner(environment=("A=1",)), process=None) == plan_of(process=None)


def test_program_is_found_with_its_own_rights_before_start() -> None:
    plan = plan_of(manner=Manner(finds_program=True), process={"args": ["a", "b"], "env": ["X=1", "PATH=/p", "PATH=/q"]})
    found = kinds(plan)
    assert found.index(op.SetIdentity) < found.index(op.FindProgram) < found.index(op.AwaitStart)
    (step,) = [step for step in plan.init if type(step) is op.FindProgram]
    assert (step.arguments, step.environment, step.json_path) == ((b"a",), (b"PATH=/q",), "$.process.args")
    assert op.FindProgram not in kinds(plan_of())
    assert op.FindProgram not in kinds(plan_of(manner=Manner(finds_program=True), process=None))


@pytest.mark.parametrize("host", [V1, V2])
def test_numbers_are_no_booleans(host: Host) -> None:
    plan = plan_of(host, process={"terminal": True}, linux={"rootfsPropagation": "rslave"})
    for operation in plan.host + plan.child + plan.init:
        assert not any(isinstance(getattr(operation, name), bool) for name in operation.__struct_fields__), operation
    assert "True" not in str(plan) and "False" not in str(plan)


@pytest.mark.parametrize(("place", "value"), [
    ("process.apparmorProfile", "a"), ("process.selinuxLabel", "a"), ("linux.mountLabel", "a"),
])
def test_unsupported_fields(place: str, value: object) -> None:
    changes: Any = value
    for name in reversed(place.split(".")):
        changes = {name: changes}
    with pytest.raises(UnsupportedFieldError) as caught:
        plan_of(**changes)
    assert caught.value.json_path == f"$.{place}"


def test_exec_enters_the_pid_namespace_last() -> None:
    process = decode_process({"args": ["sh"], "cwd": "/"})
    found = kinds(compile_exec(process, (), flags.CLONE_NEWPID | flags.CLONE_NEWNS, "c"))
    assert found[-1] is op.ExecuteProgram and op.EnterPidNamespace in found[-3:]
    assert found.index(op.SetIdentity) < found.index(op.EnterPidNamespace)


def test_exec_is_not_ahead_of_what_is_said_of_it() -> None:
    """Its successor has what the first process has when it is made, and nobody would end it where the host fails afterwards."""
    process = decode_process({"args": ["sh"], "cwd": "/", "oomScoreAdj": 5})
    plan = compile_exec(process, (), flags.CLONE_NEWPID, "c")
    assert [type(operation) for operation in plan.child] == [op.WriteChildProc, op.ReleaseChild]
    assert kinds(plan)[0] is op.AwaitRelease and kinds(plan).count(op.AwaitRelease) == 1


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize("path", [None, "/ns/user"], ids=["new", "joined"])
def test_a_container_in_a_user_namespace_is_not_ahead_of_what_is_said_of_it(host: Host, path: str | None) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    user = {"type": "user", "path": path} if path else {"type": "user"}
    plan = plan_of(host, process={"oomScoreAdj": 5, "rlimits": []}, hostname=None, mounts=[],
                   linux={"namespaces": [user, {"type": "mount"}, {"type": "pid"}], "uidMappings": mapping, "gidMappings": mapping})
    found = kinds(plan)
    assert type(plan.child[-1]) is op.ReleaseChild and found.count(op.AwaitRelease) == 1
    before = found.index(op.AwaitRelease)
    assert op.EnterPidNamespace not in found[:before] and op.SetRlimit not in found[:before]


def test_nobody_waits_where_nothing_is_said() -> None:
    plan = compile_exec(decode_process({"args": ["sh"], "cwd": "/"}), (), flags.CLONE_NEWPID, "c")
    assert plan.child == () and op.AwaitRelease not in kinds(plan)


def test_mount_options() -> None:
    options = parse_mount_options(("rbind", "ro", "nosuid", "suid", "rslave", "size=1k", "defaults"))
    assert options.is_bind and options.recursive_bind
    assert (options.set, options.clear) == (flags.MOUNT_ATTR_RDONLY, flags.MOUNT_ATTR_NOSUID)
    assert options.propagations == (flags.MS_SLAVE | flags.MS_REC,) and options.data == ("size=1k",)


@pytest.mark.parametrize(("capabilities", "expected"), [
    (None, True), ({}, False), ({"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "ambient": ["CAP_KILL"]}, False),
    *(({name: ["CAP_KILL", "CAP_SYS_PTRACE"]}, True) for name in ("bounding", "permitted", "effective", "inheritable", "ambient"))])
def test_what_could_trace(capabilities: dict[str, list[str]] | None, expected: bool) -> None:
    """Without sets the bounding one is the caller's, and programs with file capabilities have theirs."""
    process = {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 1, "gid": 1}}
    assert may_trace(decode_process(process if capabilities is None else {**process, "capabilities": capabilities})) is expected
