"""Hooks in the plan: what the init runs and when, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from test_plan import V2, kinds, plan_of

from pyruntime.native.encoder import encode
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, compile
from pyruntime.plan.hooks import later_hooks, state_texts
from pyruntime.plan.operation import Operation, step_of
from pyruntime.spec import Hook, Hooks, load_spec
from pyruntime.testing.bundles import default_config, merge

HOOK = {"path": "/bin/hook"}
USER = {"namespaces": [{"type": kind} for kind in ("user", "mount", "pid")],
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}
AT_CREATE = ("prestart", "createRuntime", "createContainer")


def hooks(*names: str, **members: Any) -> dict[str, Any]:
    return {"hooks": {name: [{**HOOK, **members}] for name in names}}


def test_without_hooks_there_is_nothing_of_them() -> None:
    plan = plan_of()
    of_hooks = {op.AnnounceHooks, op.RunHook, op.OpenRootPlace, op.PlaceRoot, op.EnterRoot, op.AwaitRelease}
    assert of_hooks.isdisjoint(kinds(plan)) and not plan.awaits_hooks and plan.hook_limit_s == 0
    # nor with those for the end
    assert plan_of(**hooks("poststop")).init == plan.init


@pytest.mark.conformance(61)
@pytest.mark.parametrize("name", AT_CREATE)
def test_order_with_hooks_of_create(name: str) -> None:
    """The mounts are there, below the path of the root, and the root is not changed yet."""
    plan = plan_of(**hooks(name))
    found = kinds(plan)
    last_mount = len(found) - 1 - found[::-1].index(op.AttachMount)
    assert found.index(op.IsolatePropagation) < found.index(op.OpenRootPlace) < found.index(op.PlaceRoot) < found.index(op.AttachMount)
    assert last_mount < found.index(op.AnnounceHooks) < found.index(op.AwaitRelease) < found.index(op.PivotRoot) < found.index(op.MaskPath)
    assert found.count(op.AnnounceHooks) == 1 and plan.awaits_hooks
    assert (op.RunHook in found) == (name == "createContainer")
    if name == "createContainer":
        assert found[found.index(op.AwaitRelease):found.index(op.PivotRoot)] == [op.AwaitRelease, op.RunHook]


def test_the_operations_are_the_same_but_for_their_order() -> None:
    added = (op.AnnounceHooks, op.RunHook, op.OpenRootPlace, op.PlaceRoot, op.AwaitRelease)
    with_hooks = [operation for operation in plan_of(**hooks("createContainer")).init if not isinstance(operation, added)]

    def told(operations: Iterable[Operation]) -> list[tuple[str, str, str]]:
        # not their slots: the place of the root has one
        return sorted((step_of(operation), operation.subject() or "", operation.json_path) for operation in operations)

    assert told(with_hooks) == told(plan_of().init)


def test_in_a_user_namespace_the_place_is_opened_with_the_callers_rights() -> None:
    found = kinds(plan_of(**hooks("prestart"), linux=USER, hostname=None))
    assert found.count(op.OpenRootPlace) == 1
    assert found.index(op.OpenRootPlace) < found.index(op.BecomeNamespaceRoot) < found.index(op.PlaceRoot)


def test_in_a_joined_mount_namespace_the_root_has_its_place() -> None:
    joined = [{"type": "mount", "path": "/proc/7/ns/mnt"}, {"type": "pid"}]
    found = kinds(plan_of(**hooks("prestart"), linux={"namespaces": joined}, hostname=None))
    assert found.index(op.MountRoot) < found.index(op.EnterRoot) < found.index(op.AttachMount) < found.index(op.UseRoot)
    assert {op.OpenRootPlace, op.PlaceRoot}.isdisjoint(found)


@pytest.mark.conformance(61)
def test_order_at_start() -> None:
    found = kinds(plan_of(**hooks("startContainer", "poststart")))
    assert found[found.index(op.AwaitStart):] == [op.AwaitStart, op.AnnounceHooks, op.RunHook, op.ExecuteProgram]
    found = kinds(plan_of(**hooks("poststart")))
    assert found[found.index(op.AwaitStart):] == [op.AwaitStart, op.AnnounceHooks, op.ExecuteProgram]


@pytest.mark.parametrize(("timeouts", "limit"), [((3, 4), 7), ((3, None), None), ((), 0)])
def test_limit_of_hooks(timeouts: tuple[int | None, ...], limit: int | None) -> None:
    listed = [HOOK if timeout is None else {**HOOK, "timeout": timeout} for timeout in timeouts]
    plan = plan_of(hooks={"createContainer": listed, "prestart": [HOOK], "startContainer": [HOOK]})
    assert plan.awaits_hooks and plan.hook_limit_s == limit


def test_operation_of_a_hook() -> None:
    plan = plan_of(**hooks("createContainer", args=["a", ""], env=["B=1"], timeout=3), annotations={"key": "ä"})
    (operation,) = (operation for operation in plan.init if isinstance(operation, op.RunHook))
    path, before, after, *arguments = operation.command
    assert (path, arguments, operation.environment) == (b"/bin/hook", [b"a", b""], (b"B=1",))
    assert (operation.timeout_s, operation.umask, operation.index, operation.json_path) == (3, 0o22, 0, "$.hooks.createContainer[0]")
    assert json.loads(before + b"12" + after) == {"ociVersion": "1.0.2", "id": "c", "status": "creating", "pid": 12, "bundle": "/b",
                                                  "annotations": {"key": "ä"}}


@pytest.mark.conformance(24)
@pytest.mark.parametrize(("kind", "env", "expected"), [("startContainer", [], ((b"A=1",), 1)), ("startContainer", ["B=2"], ((b"B=2",), 0)),
                                                       ("createContainer", [], ((), 0))])
def test_environment_of_a_hook_that_states_none(kind: str, env: list[str], expected: tuple[tuple[bytes, ...], int]) -> None:
    """At the start it is the program's, with the HOME that is found for that."""
    for own in (["A=1"], []):
        plan = plan_of(**hooks(kind, env=env), process={"env": own})
        (operation,) = (operation for operation in plan.init if isinstance(operation, op.RunHook))
        assert (operation.environment, operation.has_home) == ((), 1) if expected[1] and not own else expected


def test_a_plan_shows_its_hooks() -> None:
    assert "/bin/hook" in str(plan_of(**hooks("poststop"))) and "hooks" not in str(plan_of())


def test_the_id_is_filled_into_the_state() -> None:
    config = default_config()
    merge(config, hooks("createContainer", "startContainer"))
    encoded = encode(compile(load_spec(json.dumps(config).encode()), V2, Place("\0" * 5, "/b", "/b/rootfs", "/run/" + "\0" * 5)), 5)
    assert bytes(encoded.fill(b"first")).count(b'"id":"first","status":"creat') == 2


def test_a_bundle_whose_path_is_no_text() -> None:
    before, after = state_texts("1.0.2", "c", "creating", "/b/\udcff", {})
    assert json.loads(before + b"1" + after)["bundle"] == "/b/�"


@pytest.mark.conformance(57)
def test_hooks_that_are_remembered() -> None:
    hook = Hook(path="/bin/hook")
    assert later_hooks(Hooks(prestart=(hook,), create_runtime=(hook,), create_container=(hook,))) is msgspec.UNSET
    assert later_hooks(Hooks(prestart=(hook,), poststop=(hook,))) == Hooks(poststop=(hook,))


def test_plans_of_unlike_hooks_differ() -> None:
    plans = {str(plan_of(**hooks(name))) for name in (*AT_CREATE, "startContainer", "poststart", "poststop")}
    assert len(plans) == 6
