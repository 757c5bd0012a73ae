"""Bind mounts: where their sources are found, and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import test_plan_rootless
from test_plan import V2, plan_of
from test_plan_mounts import USER, attached, of_kind

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place
from pyruntime.plan.inside import inside_root
from pyruntime.plan.operations import Plan
from pyruntime.plan.restore import Sources, compile_restore
from pyruntime.runtimes.bundle import OpenedBundle
from pyruntime.spec import load_spec
from pyruntime.testing.bundles import default_config, merge

MAPS = {kind: [{"containerID": 0, "hostID": 1000, "size": 10}] for kind in ("uidMappings", "gidMappings")}


@pytest.mark.parametrize(("path", "rootfs", "expected"), [
    ("/b/rootfs", "/b/rootfs", "/"), ("/b/rootfs/", "/b/rootfs", "/"), ("/b/rootfs/x/y", "/b/rootfs", "/x/y"),
    ("/b//rootfs/./x/../y", "/b/rootfs", "/y"), ("/b/rootfs2", "/b/rootfs", None), ("/b/rootfs/../x", "/b/rootfs", None),
    ("/b", "/b/rootfs", None), ("/b/x/../rootfs/y", "/b/rootfs", "/y"), ("/x", "/", None), ("/", "/", None),
])
def test_what_is_in_the_root(path: str, rootfs: str, expected: str | None) -> None:
    assert inside_root(path, rootfs) == expected


def plan_with(*mounts: dict[str, Any], **changes: Any) -> Plan:
    return plan_of(V2, mounts=list(mounts), **changes)


def mount(source: str, *options: str, to: str = "/final", **more: Any) -> dict[str, Any]:
    return {"destination": to, "source": source, "type": "none", "options": ["rbind", *options], **more}


EARLIER = mount("/s", to="/data")


@pytest.mark.parametrize("source", ["/b/rootfs/data", "rootfs/data", "./rootfs//data/."])
def test_a_source_in_the_root_is_what_is_mounted_there_by_then(source: str) -> None:
    plan = plan_with(EARLIER, mount(source, "ro", "rnosuid"))
    (copy,) = of_kind(plan.init, op.CopyTree)
    assert (copy.path, copy.recursive, copy.propagation, copy.json_path) == (b"/data", 1, f.MS_SLAVE, "$.mounts[1].source")
    at = plan.init.index(copy)
    assert attached(plan, b"/data") < at < attached(plan, b"/final")
    attach = plan.init[attached(plan, b"/final")]
    assert isinstance(attach, op.AttachMount) and attach.slot == copy.slot
    first, second = plan.init[at + 1:at + 3]
    assert isinstance(first, op.SetMountAttributes) and (first.slot, first.set, first.recursive) == (copy.slot, f.MOUNT_ATTR_RDONLY, 0)
    assert isinstance(second, op.SetMountAttributes) and (second.slot, second.set, second.recursive) == (copy.slot, f.MOUNT_ATTR_NOSUID, 1)
    assert [o.path for o in of_kind(plan.child, op.OpenTree) if o.json_path.startswith("$.mounts")] == [b"/s"]


def test_the_root_itself_can_be_bound() -> None:
    (copy,) = of_kind(plan_with(mount("rootfs")).init, op.CopyTree)
    assert copy.path == b"/"


def test_a_source_elsewhere_is_the_hosts() -> None:
    plan = plan_with(mount("/b/rootfs2/data"), mount("data", to="/other"))
    assert not of_kind(plan.init, op.CopyTree)
    assert [o.path for o in of_kind(plan.child, op.OpenTree) if o.json_path.startswith("$.mounts")] == [b"/b/rootfs2/data", b"/b/data"]


def test_ids_of_a_source_in_the_root_are_mapped_by_who_may() -> None:
    """The init has privileges over the file system as long as it is in no user namespace."""
    mapped = mount("rootfs/data", "ridmap", **MAPS)
    plan = plan_with(EARLIER, mapped)
    (copy,) = of_kind(plan.init, op.CopyTree)
    (maps,) = of_kind(plan.init, op.MapMountIds)
    assert (maps.mount, maps.recursive, maps.json_path) == (copy.slot, 1, "$.mounts[1].options[1]")
    assert plan.init.index(copy) < plan.init.index(maps) < attached(plan, b"/final")
    assert not of_kind(plan.child, op.MapOfferedMount)
    plan = plan_with(EARLIER, mapped, linux=USER)
    (copy,) = of_kind(plan.init, op.CopyTree)
    (offer,) = of_kind(plan.init, op.OfferMount)
    assert offer.slot == copy.slot and not of_kind(plan.init, op.MapMountIds)
    assert plan.init.index(copy) < plan.init.index(offer) < attached(plan, b"/final")
    # when everything else is done that the init waits for
    offered = plan.child[-1]
    (namespace,) = of_kind(plan.host, op.MakeUserNamespace)
    assert offered == op.MapOfferedMount("$.mounts[1].options[1]", namespace.slot, 1, "/final")


@pytest.mark.parametrize("linux", [{"namespaces": [*USER["namespaces"][1:], {"type": "pid", "path": "/ns/pid"}]},
                                   {"netDevices": {"eth0": {}}}], ids=["pid", "devices"])
def test_who_waits_for_the_caller_already_offers_no_mounts(linux: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_with(EARLIER, mount("rootfs/data", "idmap", **MAPS), linux={**USER, **linux})
    assert raised.value.json_path == "$.mounts[1].options[1]"


def test_a_destination_may_be_named_as_the_host_has_it(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    config = default_config()
    mounts = [{"destination": to, "type": "tmpfs"} for to in (f"{tmp_path}/rootfs/a", f"{tmp_path}/rootfs", f"{tmp_path}/rootfs2", "/a", "b")]
    merge(config, {"mounts": mounts})
    bundle = OpenedBundle.decode(str(tmp_path), json.dumps(config).encode())
    assert [one.destination for one in bundle.spec.mounts] == ["/a", "/", f"{tmp_path}/rootfs2", "/a", "b"]


def test_what_is_restored_is_no_mount_of_the_root() -> None:
    config = default_config()
    merge(config, {"mounts": [EARLIER, mount("rootfs/data")]})
    with pytest.raises(InvalidBundleError) as raised:
        compile_restore(load_spec(json.dumps(config).encode()), V2, Place("c", "/b", "/b/rootfs", "/run/c"),
                        Sources(frozenset({1}), frozenset(), frozenset()), op.ExecuteProgram("", (b"criu",), ()), 0, False)
    assert raised.value.json_path == "$.mounts[1].source"


# attributes that are named, and what is set and cleared then
RO, NOSUID, NODEV, NOEXEC, NOSYMFOLLOW, NODIRATIME, NOATIME, STRICTATIME, ATIME = (
    f.MOUNT_ATTR_RDONLY, f.MOUNT_ATTR_NOSUID, f.MOUNT_ATTR_NODEV, f.MOUNT_ATTR_NOEXEC, f.MOUNT_ATTR_NOSYMFOLLOW, f.MOUNT_ATTR_NODIRATIME,
    f.MOUNT_ATTR_NOATIME, f.MOUNT_ATTR_STRICTATIME, f.MOUNT_ATTR__ATIME)
EVERY = RO | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW
# options, set, cleared, cleared in a user namespace, and whether the source may have something there that must stay
ATTRIBUTES: list[tuple[tuple[str, ...], int, int, int, bool]] = [
    (("ro",), RO, EVERY & ~RO, NOSYMFOLLOW, False),
    (("rw",), 0, EVERY, RO | NOSYMFOLLOW, True),
    (("ro", "nosuid", "nosymfollow"), RO | NOSUID | NOSYMFOLLOW, NODEV | NOEXEC, 0, False),
    (("dev",), 0, EVERY, NODEV | NOSYMFOLLOW, True),
    (("noatime",), NOATIME, EVERY | ATIME | NODIRATIME, NOSYMFOLLOW | ATIME, True),
    (("nodiratime",), NODIRATIME, EVERY | ATIME, NOSYMFOLLOW, True),
    (("strictatime", "nodiratime"), NODIRATIME | STRICTATIME, EVERY | ATIME, NOSYMFOLLOW | ATIME, True),
    (("atime",), 0, EVERY, NOSYMFOLLOW, False),
    (("strictatime", "nostrictatime"), 0, EVERY, NOSYMFOLLOW, False),
    (("diratime",), 0, EVERY, NOSYMFOLLOW, True),
]


def protections(plan: Plan, path: bytes) -> list[op.SetMountAttributes]:
    """Of what is attached at a path: whatever makes it read-only, in the init and before it."""
    attach = plan.init[attached(plan, path)]
    assert isinstance(attach, op.AttachMount)
    changes = of_kind((*plan.child, *plan.init), op.SetMountAttributes)
    return [change for change in changes if change.slot == attach.slot and change.set & RO]


@pytest.mark.parametrize("below", [{"mounts": [mount("/t", to="/data/sub")]}, {"mounts": [mount("/t", to="data/./sub/../x")]},
                                   {"linux": {"devices": [{"path": "/data/null", "type": "c", "major": 1, "minor": 3}]}}],
                         ids=["mount", "spelling", "device"])
def test_what_is_read_only_can_be_made_places_in_first(below: dict[str, Any]) -> None:
    """As with crun, and as it is with a tmpfs: what comes below it may have no place there yet."""
    plan = plan_of(V2, **{**below, "mounts": [mount("/s", "ro", "nosuid", to="/data"), *below.get("mounts", [])]})
    (late,) = protections(plan, b"/data")
    assert (late.set, late.clear, late.recursive) == (RO, 0, 0) and late in plan.init
    places = [i for i, one in enumerate(plan.init) if isinstance(one, op.AttachMount | op.MakeNode) and one.path.startswith(b"/data/")]
    assert len(places) == 1 and places[0] < plan.init.index(late)
    # all else of it is there at once
    (nosuid,) = [change for change in of_kind(plan.child, op.SetMountAttributes) if change.set & NOSUID]
    assert (nosuid.slot, nosuid.set, nosuid.clear) == (late.slot, NOSUID, NODEV | NOEXEC | NOSYMFOLLOW)


@pytest.mark.parametrize("others", [(), (mount("/t", to="/data2"),), (mount("/t", to="/data/sub"), mount("rootfs/data"))],
                         ids=["alone", "beside", "copied"])
def test_what_needs_no_place_is_read_only_from_the_beginning(others: tuple[dict[str, Any], ...]) -> None:
    """And so is what is bound a second time out of the root: the copy would be one that can be written to."""
    plan = plan_with(mount("/s", "ro", to="/data"), *others)
    (early,) = protections(plan, b"/data")
    assert early in plan.child


@pytest.mark.conformance(5, 6)
@pytest.mark.parametrize(("options", "set", "clear", "in_user_namespace", "is_checked"), ATTRIBUTES,
                         ids=[",".join(row[0]) for row in ATTRIBUTES])
def test_attributes_that_are_not_named(options: tuple[str, ...], set: int, clear: int, in_user_namespace: int, is_checked: bool) -> None:
    for linux, expected in (({}, clear), (USER, in_user_namespace)):
        plan = plan_with(mount("/s", *options), linux=linux)
        (found,) = [o for o in of_kind(plan.host + plan.child, op.SetMountAttributes) if o.json_path == "$.mounts[0].options"]
        assert (found.set, found.clear) == (set, expected)
        assert isinstance(found, op.SetUnlockedAttributes) is bool(linux and is_checked)


def test_nothing_is_cleared_where_nothing_is_named() -> None:
    for options in ((), ("rprivate", "sync", "defaults"), ("rro",), ("idmap",)):
        for linux in ({}, USER):
            plan = plan_with({**mount("/s", *options), **(MAPS if "idmap" in options else {})}, linux=linux)
            assert not [o for o in of_kind(plan.host + plan.child, op.SetMountAttributes)
                        if o.json_path == "$.mounts[0].options" and not o.recursive]


@pytest.mark.parametrize("host", [test_plan_rootless.ROOTLESS, test_plan_rootless.IN_NAMESPACE], ids=["user", "root"])
def test_without_privileges_the_kernel_keeps_what_it_locks(host: Host) -> None:
    plan = test_plan_rootless.plan_of(host, mounts=[mount("/s", "rw")])
    (found,) = [o for o in of_kind(plan.init, op.SetMountAttributes) if o.json_path == "$.mounts[0].options"]
    assert type(found) is op.SetMountAttributes and found.clear == RO | NOSYMFOLLOW
