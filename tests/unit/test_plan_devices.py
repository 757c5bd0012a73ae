"""Devices of config.json: made, bound, looked for where /dev is the host's, or refused; never passed over."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from test_plan import V1, V2, plan_of
from test_plan_mounts import USER, of_kind

from pyruntime.host import Host
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.testing.bundles import default_config

FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
DEV = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "nosuid"]}


def mounts(*more: dict[str, Any], without: str = "/dev") -> list[dict[str, Any]]:
    return [mount for mount in default_config()["mounts"] if mount["destination"] != without] + list(more)


def nodes(*devices: dict[str, Any], **changes: Any) -> list[op.MakeNode]:
    linux = {**changes.pop("linux", {}), "devices": list(devices)}
    plan = plan_of(V2, linux=linux, **changes)
    return [node for node in of_kind(plan.init, op.MakeNode) if node.json_path]


def node(path: str, demands: int, mode: int = 0o666, uid: int = 0, gid: int = 0) -> op.MakeNode:
    return op.MakeNode("$.linux.devices[0]", path.encode(), stat.S_IFCHR | mode, os.makedev(10, 229), uid, gid, demands)


def test_what_is_stated_is_demanded_of_a_node_that_is_there() -> None:
    assert nodes(FUSE) == [node("/dev/fuse", 0)]
    assert nodes({**FUSE, "fileMode": 0o600}) == [node("/dev/fuse", f.NODE_HAS_MODE, 0o600)]
    assert nodes({**FUSE, "uid": 0}) == [node("/dev/fuse", f.NODE_HAS_UID)]
    assert nodes({**FUSE, "gid": 5}) == [node("/dev/fuse", f.NODE_HAS_GID, gid=5)]
    assert nodes({**FUSE, "fileMode": 0o4640, "uid": 3, "gid": 5}) == [
        node("/dev/fuse", f.NODE_HAS_MODE | f.NODE_HAS_UID | f.NODE_HAS_GID, 0o4640, 3, 5)]
    # of the default devices nothing is
    assert {made.demands for made in of_kind(plan_of(V2).init, op.MakeNode)} == {0}


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize("linux", [{}, USER], ids=["", "user"])
def test_below_a_bound_dev_devices_are_looked_for(host: Host, linux: dict[str, Any]) -> None:
    """Nothing is made in a directory of the host's, neither a node nor what a node could be bound on."""
    plan = plan_of(host, mounts=mounts(DEV), linux={**linux, "devices": [{**FUSE, "fileMode": 0o600}]})
    demands = f.NODE_EXISTS | (0 if linux else f.NODE_HAS_MODE)
    assert of_kind(plan.init, op.MakeNode) == [node("/dev/fuse", demands, 0o600)]
    assert not [link for link in of_kind(plan.init, op.MakeLink) if link.path.startswith(b"/dev/")]
    assert not [tree for tree in of_kind(plan.host + plan.child, op.OpenTree) if tree.json_path.startswith("$.linux.devices")]


@pytest.mark.parametrize(("path", "more", "exists"), [
    ("/dev/a/fuse", (), True),
    ("/dev/../dev/fuse", (), True),
    ("//dev/fuse", (), True),
    ("/opt/fuse", (), False),
    ("/device", (), False),
    # on a file system of the container's own, below what is bound
    ("/dev/own/fuse", ({"destination": "/dev/own", "type": "tmpfs"},), False),
    ("/dev/owner", ({"destination": "/dev/own", "type": "tmpfs"},), True),
    # and what is mounted over it
    ("/dev/fuse", ({"destination": "/dev/", "type": "tmpfs"},), False),
    ("/dev/own/fuse", ({"destination": "/dev/own", "type": "tmpfs"}, {**DEV, "destination": "dev"}), True),
])
def test_where_a_bound_dev_ends(path: str, more: tuple[dict[str, Any], ...], exists: bool) -> None:
    (found,) = nodes({**FUSE, "path": path}, mounts=mounts(DEV, *more))
    assert bool(found.demands & f.NODE_EXISTS) is exists
    assert found.path == os.path.normpath(path).replace("//", "/").encode()


def test_a_tmpfs_over_a_bound_dev_has_the_default_devices() -> None:
    plan = plan_of(V2, mounts=mounts(DEV, {"destination": "/dev", "type": "tmpfs"}))
    assert len(of_kind(plan.init, op.MakeNode)) == 6
    plan = plan_of(V2, mounts=mounts(DEV))
    assert of_kind(plan.init, op.MakeNode) == []


def test_in_a_user_namespace_devices_elsewhere_are_bound() -> None:
    plan = plan_of(V2, mounts=mounts(DEV), linux={**USER, "devices": [{**FUSE, "path": "/opt/fuse"}]})
    assert [tree.path for tree in of_kind(plan.host, op.OpenTree) if tree.json_path == "$.linux.devices[0]"] == [b"/opt/fuse"]
    assert any(isinstance(o, op.AttachMount) and o.path == b"/opt/fuse" for o in plan.init)


def test_a_default_device_that_is_configured_by_another_spelling() -> None:
    plan = plan_of(V2, linux={"devices": [{"path": "/dev//./null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]})
    (made,) = [o for o in of_kind(plan.init, op.MakeNode) if o.path == b"/dev/null"]
    assert made.mode == stat.S_IFCHR | 0o600


@pytest.mark.parametrize("linux", [{}, USER], ids=["", "user"])
def test_ptmx_is_a_link_whatever_is_listed(linux: dict[str, Any]) -> None:
    """Engines list all of the host's devices for a privileged container."""
    listed = {"path": "/dev/./ptmx", "type": "c", "major": 5, "minor": 2}
    plan = plan_of(V2, linux={**linux, "devices": [listed]})
    at = [type(o) for o in plan.init if getattr(o, "path", None) == b"/dev/ptmx"]
    assert at == [op.MakeLink]
    plan = plan_of(V2, mounts=mounts(DEV), linux={**linux, "devices": [listed]})
    assert [o.demands & f.NODE_EXISTS for o in of_kind(plan.init, op.MakeNode)] == [f.NODE_EXISTS]
