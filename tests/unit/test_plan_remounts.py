"""What becomes of id mappings, remounts, copies, and mounts of cgroups, as operations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_plan import V1, V2, plan_of
from test_plan_mounts import USER, attached, of_kind

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Plan
from pyruntime.plan.warnings import warnings_of
from pyruntime.spec import load_spec
from pyruntime.testing.bundles import default_config, merge

TMPFS = {"destination": "/data", "type": "tmpfs"}
BIND = {"destination": "/data", "source": "/s", "options": ["bind"]}
MAPPED = {"uidMappings": [{"containerID": 0, "hostID": 5, "size": 9}], "gidMappings": [{"containerID": 1, "hostID": 6, "size": 8}]}


def remount(*options: str, to: str = "/data") -> dict[str, Any]:
    return {"destination": to, "options": ["remount", *options]}


def with_mounts(*mounts: dict[str, Any], host: Host = V2, **changes: Any) -> Plan:
    return plan_of(host, mounts=list(mounts), **changes)


# id mappings


@pytest.mark.conformance(8)
@pytest.mark.parametrize("linux", [{}, USER], ids=["none", "user"])
def test_mounts_with_the_same_mappings_have_one_namespace(linux: dict[str, Any]) -> None:
    other = {**MAPPED, "gidMappings": MAPPED["uidMappings"]}
    plan = with_mounts({**BIND, **MAPPED}, {**BIND, **other, "destination": "/b"},
                       {"destination": "/c", "source": "/s", "options": ["rbind", "ridmap"], **MAPPED}, linux=linux)
    sources = plan.host if linux else plan.child
    made = of_kind(sources, op.MakeUserNamespace)
    assert [(o.uid_map, o.gid_map, o.json_path) for o in made] == [
        (b"0 5 9\n", b"1 6 8\n", "$.mounts[0].uidMappings"), (b"0 5 9\n", b"0 5 9\n", "$.mounts[1].uidMappings")]
    mapped = of_kind(sources, op.MapMountIds)
    assert [(o.namespace, o.recursive, o.place, o.json_path) for o in mapped] == [
        (made[0].slot, 0, "/data", "$.mounts[0].uidMappings"), (made[1].slot, 0, "/b", "$.mounts[1].uidMappings"),
        (made[0].slot, 1, "/c", "$.mounts[2].options[1]")]
    for operation in mapped:
        # of the mount that is attached there, which is attached nowhere yet
        mount = plan.init[attached(plan, operation.place.encode())]
        assert isinstance(mount, op.AttachMount) and mount.slot == operation.mount


@pytest.mark.conformance(8)
def test_mappings_are_the_containers_where_a_mount_has_none() -> None:
    mount = {**BIND, "options": ["bind", "idmap"]}
    (made,) = of_kind(with_mounts(mount, linux=USER).host, op.MakeUserNamespace)
    assert (made.uid_map, made.gid_map, made.json_path) == (b"0 1000 10\n", b"0 1000 10\n", "$.mounts[0].options[1]")
    joined = {"namespaces": [{"type": "mount"}, {"type": "user", "path": "/ns/user"}]}
    plan = with_mounts(mount, linux=joined, hostname=None)
    assert not of_kind(plan.host, op.MakeUserNamespace)
    (mapped,) = of_kind(plan.host, op.MapMountIds)
    (opened,) = of_kind(plan.host, op.OpenNamespace)
    assert mapped.namespace == opened.slot and opened.path == b"/ns/user"
    # its own hold there too
    assert len(of_kind(with_mounts({**mount, **MAPPED}, linux=joined, hostname=None).host, op.MakeUserNamespace)) == 1
    with pytest.raises(InvalidBundleError) as raised:
        with_mounts(mount)
    assert raised.value.json_path == "$.mounts[0].options"


@pytest.mark.conformance(8)
def test_a_new_file_system_is_mapped_before_it_is_attached() -> None:
    plan = with_mounts({**TMPFS, **MAPPED})
    kinds = [type(o) for o in plan.init if o.json_path.startswith("$.mounts[0]")]
    assert kinds == [op.NewTmpfs, op.MapMountIds, op.AttachMount]


# remounts


@pytest.mark.conformance(5)
def test_what_was_mounted_there_is_known_by_its_descriptor() -> None:
    plan = with_mounts(TMPFS, {**BIND, "destination": "/b"}, remount("nosuid"), remount("nodev", "rnoexec", to="b/"), remount("nosuid", to="/"),
                       remount("nosuid", to="/elsewhere"), root={"readonly": False})
    slots = {o.path: o.slot for o in of_kind(plan.init, op.AttachMount)}
    root = next(o.slot for o in plan.init if isinstance(o, op.PivotRoot))
    found = [(o.slot, o.set, o.recursive, o.json_path) for o in of_kind(plan.init, op.SetMountAttributes)]
    assert found == [(slots[b"/data"], f.MOUNT_ATTR_NOSUID, 0, "$.mounts[2].options"),
                     (slots[b"/b"], f.MOUNT_ATTR_NODEV, 0, "$.mounts[3].options"),
                     (slots[b"/b"], f.MOUNT_ATTR_NOEXEC, 1, "$.mounts[3].options"), (root, f.MOUNT_ATTR_NOSUID, 0, "$.mounts[4].options")]
    (at,) = of_kind(plan.init, op.SetAttributesAt)
    assert (at.path, at.set, at.clear, at.propagation, at.recursive) == (b"/elsewhere", f.MOUNT_ATTR_NOSUID, 0, 0, 0)
    # nothing is attached for a remount
    assert len(slots) == 2


@pytest.mark.conformance(5)
def test_what_is_covered_is_not_what_is_mounted_there() -> None:
    inner = {"destination": "/data/inner", "type": "tmpfs"}
    assert not of_kind(with_mounts(TMPFS, inner, remount("nosuid", to="/data/inner")).init, op.SetAttributesAt)
    plan = with_mounts(TMPFS, inner, TMPFS, remount("nosuid", to="/data/inner"))
    assert [o.path for o in of_kind(plan.init, op.SetAttributesAt)] == [b"/data/inner"]


@pytest.mark.conformance(5)
@pytest.mark.parametrize("first", [[], ["ro"]])
@pytest.mark.parametrize(("option", "set", "clear"), [("ro", 1, 0), ("rw", 0, 1)])
def test_read_only_at_the_end(first: list[str], option: str, set: int, clear: int) -> None:
    plan = with_mounts({**TMPFS, "options": first}, remount("nosuid", option), {"destination": "/data/inner", "type": "tmpfs"},
                       root={"readonly": False}, linux={"maskedPaths": [], "readonlyPaths": []})
    found = [(i, o.set, o.clear) for i, o in enumerate(plan.init) if isinstance(o, op.SetMountAttributes)]
    (now, *_), *late = found
    assert found[0][1:] == (f.MOUNT_ATTR_NOSUID, 0) and now < attached(plan, b"/data/inner")
    assert [pair for _, *pair in late] == [*([[1, 0]] if first else []), [set, clear]]
    assert late[0][0] > max(i for i, o in enumerate(plan.init) if isinstance(o, op.AttachMount | op.MakeNode | op.MakeLink))


@pytest.mark.conformance(5, 10)
def test_a_file_system_is_configured_again_if_it_was_made_for_the_container() -> None:
    plan = with_mounts(TMPFS, remount("size=1k", "sync", "nolazytime", "dirsync", "iversion", "x"))
    (configured,) = of_kind(plan.init, op.ReconfigureFilesystem)
    (counted,) = of_kind(plan.init, op.CountVersions)
    (made,) = of_kind(plan.init, op.AttachMount)[:1]
    assert configured.options == (b"sync", b"nolazytime", b"size=1k", b"x")
    assert configured.slot == counted.slot == made.slot and counted.flags == 0
    for mount in (BIND, {"destination": "/data", "type": "cgroup"}):
        plan = with_mounts(mount, remount("sync", "iversion"))
        assert not of_kind(plan.init, op.ReconfigureFilesystem) and not of_kind(plan.init, op.CountVersions)
    disk = {**TMPFS, "type": "ext4", "source": "/dev/x"}
    for mounts in ((BIND, remount("size=1k")), (disk, remount("data=journal")), (TMPFS, remount("bind", "size=1k")), (remount("size=1k"),)):
        with pytest.raises(UnsupportedFieldError) as raised:
            with_mounts(*mounts)
        assert raised.value.json_path == f"$.mounts[{len(mounts) - 1}].options[{len(mounts[-1]['options']) - 1}]"


# copies


@pytest.mark.conformance(9)
@pytest.mark.parametrize(("options", "has_mode", "what"), [
    ([], True, None), (["mode=700"], False, None), (["uid=1"], True, None),
    (["tmpcopyup"], True, f.COPY_UP_CONTENTS | f.COPY_UP_UID | f.COPY_UP_GID),
    (["tmpcopyup", "mode=700", "gid=3"], False, f.COPY_UP_CONTENTS | f.COPY_UP_UID),
])
def test_what_a_tmpfs_takes_over(options: list[str], has_mode: bool, what: int | None) -> None:
    plan = with_mounts({**TMPFS, "options": ["ro", *options]})
    found = of_kind(plan.init, op.CopyUp)
    assert [o.what for o in found] == ([] if what is None else [what])
    (made,) = [o for o in of_kind(plan.init, op.NewTmpfs if has_mode else op.NewFilesystem) if o.json_path == "$.mounts[0]"]
    assert plan.init.index(made) < attached(plan, b"/data") and (not has_mode or made.path == b"/data")
    for operation in found:
        # filled before it can be seen, and before it is read-only
        assert operation.slot == made.slot and operation.path == b"/data" and not made.attributes
        assert plan.init.index(made) < plan.init.index(operation) < attached(plan, b"/data")


@pytest.mark.conformance(9)
@pytest.mark.parametrize("mount", [{**TMPFS, "type": "ramfs"}, {**TMPFS, "options": ["bind"], "source": "/s"}, remount()])
def test_only_a_new_tmpfs_takes_over_what_is_there(mount: dict[str, Any]) -> None:
    options = [*mount.get("options", []), "tmpcopyup"]
    with pytest.raises(InvalidBundleError) as raised:
        with_mounts({**mount, "options": options})
    assert raised.value.json_path == f"$.mounts[0].options[{len(options) - 1}]"


# overlays


LAYERS = [f"/layers/{i:02}/{'x' * 40}" for i in range(9)]


@pytest.mark.conformance(10)
@pytest.mark.parametrize(("kernel", "layers", "is_split"), [
    ((6, 5), LAYERS, True), ((6, 4), LAYERS, False), ((6, 18), LAYERS[:2], False), ((6, 18), [*LAYERS, "", "/data"], False),
    ((6, 18), [*LAYERS, "/with\\:colon"], False)])
def test_lower_layers_that_are_too_long_for_one_option(kernel: tuple[int, int], layers: list[str], is_split: bool) -> None:
    option = f"lowerdir={':'.join(layers)}"
    mount = {"destination": "/data", "type": "overlay", "options": ["index=off", option, "xino=off"]}
    plan = with_mounts(mount, host=Host(kernel, V2.hierarchies, 0))
    (made,) = [o for o in of_kind(plan.init, op.NewFilesystem) if o.type == b"overlay"]
    expected = [f"lowerdir+={layer}" for layer in layers] if is_split else [option]
    assert made.options == tuple(item.encode() for item in ("index=off", *expected, "xino=off"))


# cgroups


def warnings_for(host: Host, *mounts: dict[str, Any], **linux: Any) -> list[str]:
    """Of namespaces."""
    config = default_config()
    merge(config, {"mounts": list(mounts), "linux": linux, "hostname": None})
    return [warning for warning in warnings_of(load_spec(json.dumps(config).encode()), host) if "namespace" in warning]


KINDS = ("pid", "network", "ipc", "uts", "mount")
NAMESPACES: dict[str, tuple[list[dict[str, str]], bool]] = {
    "new": ([{"type": kind} for kind in (*KINDS, "user", "cgroup")], True), "none": ([{"type": kind} for kind in (*KINDS, "user")], False),
    "joined": ([*({"type": kind} for kind in (*KINDS, "user")), {"type": "cgroup", "path": "/ns/cgroup"}], False),
    "nobody else's": ([{"type": kind} for kind in KINDS], True),
}
MAPS = {name: [{"containerID": 0, "hostID": 100000, "size": 65536}] for name in ("uidMappings", "gidMappings")}


@pytest.mark.conformance(26)
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("options", [[], ["rw"], ["ro"], ["rrw"], ["rro"]], ids=str)
@pytest.mark.parametrize(("host", "type"), [(V1, "cgroup"), (V1, "cgroup2"), (V2, "cgroup")])
def test_cgroups_can_be_written_to_unless_they_may_be_the_users_own(host: Host, type: str, options: list[str], namespace: str) -> None:
    namespaces, is_new = NAMESPACES[namespace]
    linux = {"namespaces": namespaces, **(MAPS if {"type": "user"} in namespaces else {})}
    mount = {"destination": "/data", "type": type, "options": options}
    plan = with_mounts(mount, host=host, linux=linux, root={"readonly": False})
    trees = [o.slot for o in of_kind(plan.host + plan.child, op.OpenTree) if o.json_path == "$.mounts[0]"]
    assert trees
    read_only = {o.slot: bool(o.set & f.MOUNT_ATTR_RDONLY) for o in of_kind(plan.host + plan.child, op.SetMountAttributes)
                 if (o.set | o.clear) & f.MOUNT_ATTR_RDONLY}
    expected = not is_new or options in (["ro"], ["rro"])
    assert [read_only.get(slot, False) for slot in trees] == [expected] * len(trees)
    # a remount does not help
    again = with_mounts(mount, remount("rw"), host=host, linux=linux, root={"readonly": False})
    assert any(o.clear & f.MOUNT_ATTR_RDONLY for o in of_kind(again.init, op.SetMountAttributes)) is is_new
    warnings = warnings_for(host, mount, **linux)
    assert bool(warnings) is (not is_new and options not in (["ro"], ["rro"]))
    assert all("'/data'" in warning and "cgroup namespace" in warning for warning in warnings)


# without a mount namespace


@pytest.mark.conformance(27)
def test_in_the_callers_mount_namespace_the_root_has_its_own_place() -> None:
    linux = {"namespaces": [{"type": "pid"}], "maskedPaths": [], "readonlyPaths": []}
    plan = plan_of(V2, linux=linux, hostname=None)
    kinds = [type(o) for o in plan.init]
    assert kinds.index(op.MountRoot) + 1 == kinds.index(op.UseRoot) < kinds.index(op.AttachMount)
    assert not {op.IsolatePropagation, op.PivotRoot, op.JoinNamespace} & {*kinds}
    assert not any(o.types & f.CLONE_NEWNS for o in of_kind(plan.init, op.UnshareNamespaces)) and not plan.clone_flags & f.CLONE_NEWNS
    (warning,) = warnings_for(V2, **linux)
    assert "no mount namespace" in warning
    mapped = {name: USER[name] for name in ("uidMappings", "gidMappings")}
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(V2, linux={**linux, "namespaces": [{"type": "user"}], **mapped}, hostname=None)
    assert raised.value.json_path == "$.linux.namespaces"
