"""Where in a plan the filter is, and with which capabilities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from filters import rule, seccomp_of
from test_plan import PLACE, V2

from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import compile, compile_exec
from pyruntime.plan.operations import Operation, Plan
from pyruntime.plan.seccomp import Filter, notifies, notifies_of
from pyruntime.spec import decode_process, load_spec
from pyruntime.testing.bundles import default_config, merge, without_pid_namespace

FILTER = Filter(b"program!", 4)
ADMIN = 1 << 21
BOTH = flags.FILTER_REVOKES_EFFECTIVE | flags.FILTER_REVOKES_PERMITTED


def plan_of(filter: Filter | None = FILTER, **changes: Any) -> Plan:
    config = default_config()
    merge(config, changes)
    return compile(load_spec(json.dumps(config).encode()), V2, PLACE, filter=filter)


def exec_plan_of(filter: Filter | None = FILTER, namespaces: int = flags.CLONE_NEWPID, **process: Any) -> Plan:
    return compile_exec(decode_process({"args": ["sh"], "cwd": "/", **process}), (), namespaces, "c", filter=filter)


def end_of(plan: Plan) -> list[type[Operation]]:
    kinds = [type(operation) for operation in plan.init]
    return kinds[kinds.index(op.SetUmask) + 1:]


def of_kind(plan: Plan, kind: type[Any]) -> Any:
    (found,) = [operation for operation in plan.init if isinstance(operation, kind)]
    return found


def test_last_with_no_new_privileges() -> None:
    assert end_of(plan_of()) == [op.StartSession, op.AwaitStart, op.FindProgram, op.InstallFilter, op.ExecuteProgram]
    assert end_of(exec_plan_of(noNewPrivileges=True)) == [
        op.EnterPidNamespace, op.StartSession, op.FindProgram, op.InstallFilter, op.ExecuteProgram]
    for plan in (plan_of(), exec_plan_of(noNewPrivileges=True)):
        assert of_kind(plan, op.InstallFilter) == op.InstallFilter("$.linux.seccomp", b"program!", 8, 4, 0, flags.FILTER_BEFORE_PROGRAM)


def test_a_plan_without_a_filter_is_as_it_was() -> None:
    assert end_of(plan_of(None)) == [op.StartSession, op.AwaitStart, op.ExecuteProgram]
    assert end_of(exec_plan_of(None)) == [op.EnterPidNamespace, op.StartSession, op.ExecuteProgram]


def test_without_no_new_privileges() -> None:
    """The capability that installing takes stays permitted until then; nothing waits with it in a pid namespace with others."""
    process = {"noNewPrivileges": False}
    plan = plan_of(process=process)
    assert end_of(plan) == [op.StartSession, op.AwaitStart, op.FindProgram, op.InstallFilter, op.ExecuteProgram]
    installed = of_kind(plan, op.InstallFilter)
    assert (installed.revokes, installed.before) == (BOTH, flags.FILTER_BEFORE_PROGRAM)
    capabilities = of_kind(plan, op.SetCapabilities)
    assert capabilities.permitted == capabilities.effective | ADMIN and not capabilities.effective & ADMIN
    plan = plan_of(process=process, linux=without_pid_namespace())
    assert end_of(plan) == [op.StartSession, op.InstallFilter, op.AwaitStart, op.ExecuteProgram]
    assert (of_kind(plan, op.InstallFilter).revokes, of_kind(plan, op.InstallFilter).before) == (BOTH, flags.FILTER_BEFORE_START)
    plan = exec_plan_of(capabilities={"permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]})
    assert end_of(plan) == [op.InstallFilter, op.EnterPidNamespace, op.StartSession, op.ExecuteProgram]
    assert (of_kind(plan, op.InstallFilter).revokes, of_kind(plan, op.InstallFilter).before) == (BOTH, flags.FILTER_BEFORE_CLONE)
    plan = exec_plan_of(namespaces=0, user={"uid": 5, "gid": 0})
    assert end_of(plan) == [op.StartSession, op.FindProgram, op.InstallFilter, op.ExecuteProgram]
    assert of_kind(plan, op.SetCapabilities) == op.SetCapabilities("", 0, ADMIN, 0)


@pytest.mark.parametrize(("permitted", "effective", "revokes"), [
    (["CAP_SYS_ADMIN"], ["CAP_SYS_ADMIN"], 0), (["CAP_SYS_ADMIN"], [], flags.FILTER_REVOKES_EFFECTIVE), ([], ["CAP_SYS_ADMIN"], BOTH)])
def test_what_is_granted_is_not_revoked(permitted: list[str], effective: list[str], revokes: int) -> None:
    sets = {"capabilities": {"permitted": permitted, "effective": effective}}
    assert of_kind(exec_plan_of(**sets), op.InstallFilter).revokes == revokes
    assert of_kind(exec_plan_of(capabilities=None), op.InstallFilter).revokes == 0  # all of the runtime's


def test_without_a_process_there_is_nothing_to_filter() -> None:
    config = default_config()
    del config["process"]
    plan = compile(load_spec(json.dumps(config).encode()), V2, PLACE, filter=FILTER)
    assert not any(isinstance(operation, op.InstallFilter) for operation in plan.init)


def test_who_is_notified_of_what() -> None:
    def profile(default: str, *rules: dict[str, Any]) -> Any:
        return seccomp_of(defaultAction=f"SCMP_ACT_{default}", syscalls=list(rules), listenerPath="/x")

    assert not notifies(profile("ALLOW", rule("mkdir")))
    condition = (0, "EQ", 1)
    for seccomp, of_sendmsg in (
            (profile("ALLOW", rule("mkdir", "SCMP_ACT_NOTIFY")), False), (profile("NOTIFY"), True), (profile("NOTIFY", rule("sendmsg")), False),
            (profile("ALLOW", rule("sendmsg", "SCMP_ACT_NOTIFY", condition)), True),
            (profile("NOTIFY", rule("sendmsg", "SCMP_ACT_LOG", condition)), True)):
        assert notifies(seccomp) and notifies_of(seccomp, "sendmsg") == of_sendmsg


@pytest.mark.conformance(51)
def test_exec_that_could_not_pass_its_listener_on() -> None:
    filter = Filter(b"program!", flags.SECCOMP_FILTER_FLAG_NEW_LISTENER, True)
    with pytest.raises(UnsupportedFieldError) as caught:
        exec_plan_of(filter, user={"uid": 5, "gid": 0})
    assert caught.value.json_path == "$.noNewPrivileges"
    for plan in (exec_plan_of(filter, noNewPrivileges=True), exec_plan_of(filter, namespaces=0), exec_plan_of(filter),
                 exec_plan_of(Filter(b"program!", 8), user={"uid": 5, "gid": 0})):
        assert of_kind(plan, op.InstallFilter).flags == 8
