"""The plan of a criu that restores: what it finds in its mount namespace, and that the checkpoint does not choose what that is."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from pyruntime.errors import InvalidBundleError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place
from pyruntime.plan.operations import Plan
from pyruntime.plan.restore import Sources, compile_restore
from pyruntime.spec import load_spec
from pyruntime.testing.bundles import default_config, merge

V1 = Host((6, 1), (Hierarchy("/cg/devices", False, ("devices",)), Hierarchy("/cg/unified", True)), 0)
V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
CRIU = op.ExecuteProgram("", (b"/sbin/criu", b"swrk", b"3"), ())
NOTHING = Sources(frozenset(), frozenset(), frozenset())
MOUNTS = [*default_config()["mounts"], {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]}]
DATA = len(MOUNTS) - 1


def plan_of(sources: Sources = NOTHING, host: Host = V2, inherits_cgroups: bool = True, **changes: Any) -> Plan:
    config = default_config()
    merge(config, {"mounts": MOUNTS, **changes})
    place = Place("c", "/b", "/b/rootfs", "/run/c")
    return compile_restore(load_spec(json.dumps(config).encode()), host, place, sources, CRIU, 4, inherits_cgroups)


def attached(plan: Plan) -> list[bytes]:
    return [operation.path for operation in plan.init if isinstance(operation, op.AttachMount)]


def test_criu_is_in_the_containers_cgroups_and_a_mount_namespace_of_its_own() -> None:
    plan = plan_of(host=V1)
    kinds = [type(operation) for operation in plan.init]
    order = [op.UnshareNamespaces, op.JoinCgroup, op.UnshareNamespaces, op.IsolatePropagation, op.MountRoot, op.AttachMount, op.ExecuteProgram]
    assert [kind for kind in kinds if kind in order] == order
    assert [operation.types for operation in plan.init if isinstance(operation, op.UnshareNamespaces)] == [
        flags.CLONE_NEWNS, flags.CLONE_NEWCGROUP]
    assert plan.clone_flags == 0 and plan.given_fds == 4 and plan.init[-1] == CRIU
    assert any(isinstance(operation, op.MakeCgroup) for operation in plan.child)


def test_where_criu_makes_the_cgroup_namespace() -> None:
    for changes in ({"inherits_cgroups": False}, {"linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]}}):
        assert [o.types for o in plan_of(**changes).init if isinstance(o, op.UnshareNamespaces)] == [flags.CLONE_NEWNS]


def test_what_is_read_only_is_so_before_criu_runs() -> None:
    plan = plan_of(Sources(frozenset({DATA}), frozenset(), frozenset()))
    assert attached(plan) == [b"/root", f"/mounts/{DATA}".encode()]
    (tree,) = [o for o in plan.child if isinstance(o, op.OpenTree) and o.path == b"/b/data"]
    assert tree.recursive == 1
    (attributes,) = [o for o in plan.child if isinstance(o, op.SetMountAttributes) and o.slot == tree.slot]
    assert attributes.set & flags.MOUNT_ATTR_RDONLY
    roots = [o for o in plan.init if isinstance(o, op.SetMountAttributes)]
    assert [(o.set, o.json_path) for o in roots] == [(flags.MOUNT_ATTR_RDONLY, "$.root.readonly")]
    assert not [o for o in plan_of(root={"readonly": False}).init if isinstance(o, op.SetMountAttributes)]


def test_mount_points_of_the_root() -> None:
    """Made while the root can be written to, and inside of it."""
    plan = plan_of(Sources(frozenset(), frozenset(), frozenset(), (("/data", True), ("/etc/file", False))))
    kinds = [o for o in plan.init if isinstance(o, op.EnterRoot | op.MakeMountPoint | op.SetMountAttributes)]
    assert [type(o) for o in kinds] == [op.EnterRoot, op.EnterRoot, op.MakeMountPoint, op.MakeMountPoint, op.EnterRoot, op.SetMountAttributes]
    assert [(o.path, o.is_directory) for o in kinds if isinstance(o, op.MakeMountPoint)] == [(b"/data", 1), (b"/etc/file", 0)]


@pytest.mark.parametrize(("host", "name", "path"), [(V2, "", b"/cg/pyruntime/c"), (V1, "devices", b"/cg/devices/pyruntime/c"),
                                                    (V1, "", b"/cg/unified/pyruntime/c")])
def test_cgroups_are_the_new_container_s(host: Host, name: str, path: bytes) -> None:
    plan = plan_of(Sources(frozenset(), frozenset({name}), frozenset()), host)
    assert path in [o.path for o in plan.child if isinstance(o, op.OpenTree)]
    assert attached(plan)[1:] == [f"/cgroups/{name or 'unified'}".encode()]


def test_devices_are_those_of_the_bundle() -> None:
    number = (10, 229, 0)
    with pytest.raises(InvalidBundleError) as caught:
        plan_of(Sources(frozenset(), frozenset(), frozenset({number})))
    assert caught.value.json_path == "$.linux.devices" and "10:229" in str(caught.value)
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    plan = plan_of(Sources(frozenset(), frozenset(), frozenset({number, (1, 3, 0)})), linux={"devices": devices})
    trees = {o.path: o.device for o in plan.child if isinstance(o, op.OpenTree) and o.device}
    assert trees == {b"/dev/fuse": os.makedev(10, 229), b"/dev/null": os.makedev(1, 3)}
    assert set(attached(plan)[1:]) == {b"/devices/10-229-0", b"/devices/1-3-0"}


@pytest.mark.parametrize(("sources", "changes", "json_path"), [
    (Sources(frozenset({99}), frozenset(), frozenset()), {}, "$.mounts"),
    (Sources(frozenset(), frozenset({"memory"}), frozenset()), {}, "$.linux.cgroupsPath"),
    (Sources(frozenset(), frozenset({""}), frozenset()), {"mounts": MOUNTS[:1]}, "$.mounts")])
def test_what_the_bundle_does_not_have(sources: Sources, changes: dict[str, Any], json_path: str) -> None:
    with pytest.raises(InvalidBundleError) as caught:
        plan_of(sources, **changes)
    assert caught.value.json_path == json_path
