"""Mount options one by one, what user namespaces change, and what waits until it has been filled."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from test_plan import V1, V2, plan_of

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.plan.operations import Plan
from pyruntime.testing.bundles import default_config

ATIME = f.MOUNT_ATTR__ATIME
# config.md, "Linux mount options": what each sets and clears of mount_setattr(2)'s attributes
ATTRIBUTES = {
    "ro": (1, 0), "rw": (0, 1), "nosuid": (2, 0), "suid": (0, 2), "nodev": (4, 0), "dev": (0, 4), "noexec": (8, 0),
    "exec": (0, 8), "nodiratime": (0x80, 0), "diratime": (0, 0x80), "nosymfollow": (0x200000, 0), "symfollow": (0, 0x200000),
    "relatime": (0, ATIME), "norelatime": (0x20, ATIME), "noatime": (0x10, ATIME), "atime": (0, ATIME),
    "strictatime": (0x20, ATIME), "nostrictatime": (0, ATIME),
}
PROPAGATION = {"private": f.MS_PRIVATE, "slave": f.MS_SLAVE, "shared": f.MS_SHARED, "unbindable": f.MS_UNBINDABLE}
FOR_THE_FILE_SYSTEM = ("sync", "dirsync", "lazytime", "mand", "iversion")
NOTHING = ("async", "defaults", "loud", "silent", "noiversion", "nolazytime", "nomand")
OTHERS = ("bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap")
# the table's first column; `acl` and `noacl` are the file system's
_TABLE = """async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime
noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime
relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro
rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime
suid symfollow sync tmpcopyup unbindable"""
EVERY = _TABLE.split()


@pytest.mark.conformance(5)
def test_the_table_has_every_option() -> None:
    mine = {*ATTRIBUTES, *(f"r{name}" for name in ATTRIBUTES), *PROPAGATION, *(f"r{name}" for name in PROPAGATION),
            *FOR_THE_FILE_SYSTEM, *NOTHING, *OTHERS}
    assert mine == set(EVERY)


@pytest.mark.conformance(5, 6, 7)
@pytest.mark.parametrize("option", EVERY)
def test_option(option: str) -> None:
    found = parse_mount_options(("x", option))
    recursive = option[1:] if option[0] == "r" and option[1:] in ATTRIBUTES else None
    assert (found.set, found.clear) == ATTRIBUTES.get(option, (0, 0))
    assert (found.recursive_set, found.recursive_clear) == (ATTRIBUTES[recursive] if recursive else (0, 0))
    kind = PROPAGATION.get(option.removeprefix("r")) or PROPAGATION.get(option)
    assert found.propagations == ((kind | (f.MS_REC if option[0] == "r" else 0),) if kind else ())
    assert (found.is_bind, found.recursive_bind) == (option in ("bind", "rbind"), option == "rbind")
    assert found.data == ("x",) and found.unknown == (0,)
    assert found.flags_to_set() == ([option] if option in FOR_THE_FILE_SYSTEM and option != "iversion" else [])
    negated = {"async": "sync", "nolazytime": "lazytime", "nomand": "mand", "noiversion": "iversion"}
    assert found.superblock == ({option: True} if option in FOR_THE_FILE_SYSTEM else {negated[option]: False} if option in negated else {})
    assert (found.is_remount, found.mapping, found.copies_up) == (
        option == "remount", 1 if option in ("idmap", "ridmap") else None, 1 if option == "tmpcopyup" else None)


@pytest.mark.parametrize(("options", "set", "clear"), [
    (("ro", "rw"), 0, 1), (("rw", "ro"), 1, 0), (("noatime", "strictatime"), 0x20, ATIME), (("noatime", "relatime"), 0, ATIME),
    (("nosuid", "nodev", "noexec"), 14, 0), (("nosuid", "suid", "nosuid"), 2, 0),
    # what takes a mode back does not take another one back
    (("noatime", "norelatime"), 0x10, ATIME), (("noatime", "nostrictatime"), 0x10, ATIME), (("strictatime", "atime"), 0x20, ATIME),
    (("noatime", "atime"), 0, ATIME), (("relatime", "norelatime"), 0x20, ATIME), (("strictatime", "nostrictatime"), 0, ATIME),
    (("relatime", "atime"), 0, ATIME), (("noatime", "ro", "nodiratime", "norelatime"), 0x91, ATIME),
])
def test_the_last_of_contradicting_options_holds(options: tuple[str, ...], set: int, clear: int) -> None:
    found = parse_mount_options(options)
    assert (found.set, found.clear) == (set, clear)
    found = parse_mount_options(tuple(f"r{option}" for option in options))
    assert (found.recursive_set, found.recursive_clear) == (set, clear)


@pytest.mark.conformance(10)
def test_options_of_the_file_system_keep_their_order() -> None:
    assert parse_mount_options(("size=1k", "ro", "acl", "mode=700")).data == ("size=1k", "acl", "mode=700")


@pytest.mark.conformance(5)
def test_the_last_of_contradicting_flags_of_a_file_system_holds() -> None:
    assert parse_mount_options(("sync", "lazytime", "mand", "async", "iversion", "noiversion")).flags_to_set() == ["lazytime", "mand"]
    assert parse_mount_options(("async", "sync")).flags_to_set() == ["sync"]


# plans

USER = {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]}


# a file system that is not there yet
NEW: Any = (op.NewFilesystem, op.NewTmpfs)


def of_kind(operations: tuple[op.Operation, ...], kind: Any) -> list[Any]:
    return [operation for operation in operations if isinstance(operation, kind)]


def attached(plan: Plan, path: bytes) -> int:
    """Where in the init's operations the mount goes to that path."""
    return next(i for i, o in enumerate(plan.init) if isinstance(o, op.AttachMount) and o.path == path)


def test_devices_of_a_user_namespace_are_the_hosts() -> None:
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
               {"path": "/dev/disk", "type": "b", "major": 254, "minor": 3}, {"path": "/dev/pipe", "type": "p"}]
    plan = plan_of(V2, linux={**USER, "devices": devices})
    copies = {tree.path: tree for tree in of_kind(plan.host, op.OpenTree) if tree.json_path != "$.linux.maskedPaths"}
    expected = {b"/dev/null": (1, 3), b"/dev/zero": (1, 5), b"/dev/full": (1, 7), b"/dev/random": (1, 8),
                b"/dev/urandom": (1, 9), b"/dev/tty": (5, 0), b"/dev/fuse": (10, 229), b"/dev/disk": (254, 3)}
    for path, number in expected.items():
        assert copies[path].device == os.makedev(*number), path
        # what is at the path has to be of that kind too
        assert copies[path].is_block == int(path == b"/dev/disk"), path
        mount = plan.init[attached(plan, path)]
        assert isinstance(mount, op.AttachMount) and mount.slot == copies[path].slot
    # only a FIFO can be made there
    assert [(node.path, stat.S_IFMT(node.mode)) for node in of_kind(plan.init, op.MakeNode)] == [(b"/dev/pipe", stat.S_IFIFO)]
    assert copies[b"/dev/fuse"].json_path == "$.linux.devices[0]"
    without = plan_of(V2, linux={"devices": devices})
    assert len(of_kind(without.init, op.MakeNode)) == 9
    assert b"/dev/zero" not in {tree.path for tree in of_kind(without.host, op.OpenTree)}


def test_proc_and_sysfs_of_a_user_namespace_are_made_before_the_change_of_root() -> None:
    for linux, early in ((USER, True), ({}, False)):
        plan = plan_of(V2, linux=linux)
        kinds = {o.type: i for i, o in enumerate(plan.init) if isinstance(o, op.NewFilesystem)}
        pivot = next(i for i, o in enumerate(plan.init) if isinstance(o, op.PivotRoot))
        assert (kinds[b"proc"] < pivot) is (kinds[b"sysfs"] < pivot) is early
        assert kinds[b"devpts"] > pivot


def test_file_systems_of_the_hosts_paths_are_made_before_the_change_of_root() -> None:
    mounts = [{"destination": "/disk", "type": "ext4", "source": "/dev/vdb"},
              {"destination": "/layers", "type": "overlay", "source": "overlay", "options": ["lowerdir=/a:/b"]},
              {"destination": "/own", "type": "tmpfs", "source": "tmpfs"}]
    plan = plan_of(V2, mounts=mounts)
    kinds = {o.type: i for i, o in enumerate(plan.init) if isinstance(o, op.NewFilesystem)}
    pivot = next(i for i, o in enumerate(plan.init) if isinstance(o, op.PivotRoot))
    (own,) = of_kind(plan.init, op.NewTmpfs)
    assert max(kinds[b"ext4"], kinds[b"overlay"]) < pivot < plan.init.index(own)
    assert [o.path for o in plan.init if isinstance(o, op.AttachMount)] == [b"/disk", b"/layers", b"/own"]


def test_a_read_only_tmpfs_is_filled_first() -> None:
    mounts = [*default_config()["mounts"], {"destination": "/data", "type": "tmpfs", "options": ["ro", "nosuid"]},
              {"destination": "/data/inner", "type": "tmpfs", "options": ["ro"]}]
    plan = plan_of(V2, mounts=mounts, linux={"devices": [{"path": "/data/node", "type": "p"}]})
    new = {o.json_path: o for o in of_kind(plan.init, NEW)}
    assert new["$.mounts[7]"].attributes == f.MOUNT_ATTR_NOSUID and b"ro" not in new["$.mounts[7]"].options
    order = [o.path for o in plan.init if isinstance(o, op.AttachMount | op.MakeNode) and o.path.startswith(b"/data")]
    assert order == [b"/data", b"/data/inner", b"/data/node"]
    last_made = max(i for i, o in enumerate(plan.init) if isinstance(o, op.AttachMount | op.MakeNode | op.MakeLink | op.MaskPath))
    for path in ("$.mounts[7]", "$.mounts[8]"):
        (protects,) = [i for i, o in enumerate(plan.init) if isinstance(o, op.SetMountAttributes)
                       and o.json_path == f"{path}.options"]
        operation = plan.init[protects]
        assert isinstance(operation, op.SetMountAttributes)
        assert (operation.slot, operation.set, operation.recursive) == (new[path].slot, f.MOUNT_ATTR_RDONLY, 0)
        assert protects > last_made
    # a file system that is full already is made read-only at once
    other = plan_of(V2, mounts=[{"destination": "/data", "type": "ext4", "source": "/dev/x", "options": ["ro"]}])
    (made,) = [o for o in of_kind(other.init, op.NewFilesystem) if o.type == b"ext4"]
    assert made.attributes == f.MOUNT_ATTR_RDONLY and b"ro" in made.options


def test_the_cgroup_tmpfs_of_v1_is_filled_first() -> None:
    plan = plan_of(V1)
    (made,) = [o for o in of_kind(plan.init, op.NewFilesystem) if o.json_path == "$.mounts[6]"]
    assert not made.attributes & f.MOUNT_ATTR_RDONLY
    links = max(i for i, o in enumerate(plan.init) if isinstance(o, op.MakeLink) and o.json_path == "$.mounts[6]")
    (protects,) = [i for i, o in enumerate(plan.init) if isinstance(o, op.SetMountAttributes) and o.slot == made.slot]
    assert protects > links
    # and the cgroups themselves are copies that are read-only from the start
    for tree in of_kind(plan.host, op.OpenTree):
        if tree.json_path == "$.mounts[6]":
            (attributes,) = [o for o in of_kind(plan.host, op.SetMountAttributes) if o.slot == tree.slot]
            assert attributes.set & f.MOUNT_ATTR_RDONLY


NAMES = ("ipc", "uts", "network", "cgroup", "time", "pid", "user")


def test_joined_namespaces_come_in_the_order_of_their_owners() -> None:
    namespaces = [{"type": "mount"}] + [{"type": name, "path": f"/ns/{name}"} for name in NAMES]
    plan = plan_of(V2, linux={"namespaces": namespaces}, hostname=None)
    found = of_kind(plan.init, op.JoinNamespace)
    types = [join.type for join in found]
    # root of the host may enter what others own, and the pid namespace is entered by a new process after the identity is taken
    assert types[-2:] == [f.CLONE_NEWUSER, f.CLONE_NEWPID]
    assert set(types) == {f.NAMESPACES[name] for name in NAMES}
    opened = {o.slot: o for o in of_kind(plan.host, op.OpenNamespace)}
    for join in found:
        assert opened[join.slot].type == join.type
        assert opened[join.slot].path == b"/ns/" + next(n for n in NAMES if f.NAMESPACES[n] == join.type).encode()
    kinds = [type(o) for o in plan.init]
    assert kinds.index(op.BecomeNamespaceRoot) > kinds.index(op.JoinNamespace)
    # what is made anew is made in the joined user namespace, so not by the clone
    assert plan.clone_flags == 0
    (unshare,) = of_kind(plan.init, op.UnshareNamespaces)
    assert unshare.types == f.CLONE_NEWNS and kinds.index(op.UnshareNamespaces) > kinds.index(op.BecomeNamespaceRoot)
    entered = kinds.index(op.EnterPidNamespace)
    assert plan.init[entered - 1] == found[-1]


def test_a_joined_pid_namespace_without_a_user_namespace_is_entered_after_the_root() -> None:
    namespaces = [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/ns/pid"}]
    plan = plan_of(V2, linux={"namespaces": namespaces})
    kinds = [type(o) for o in plan.init]
    assert plan.clone_flags == 0
    assert plan.init[0] == op.UnshareNamespaces("$.linux.namespaces", f.CLONE_NEWNS | f.CLONE_NEWUTS)
    # nothing of the host is in reach of the namespace's processes by then
    assert kinds.index(op.PivotRoot) < kinds.index(op.EnterPidNamespace) < kinds.index(op.AttachMount)


def test_the_init_makes_namespaces_while_the_host_prepares() -> None:
    plan = plan_of(V1)
    kinds = [type(o) for o in plan.init]
    assert plan.clone_flags == f.CLONE_NEWPID
    assert kinds[:4] == [op.UnshareNamespaces, op.RaiseLoopback, op.ReceiveSlots, op.JoinCgroup]
    assert plan.init[0].types == f.CLONE_NEWNS | f.CLONE_NEWNET | f.CLONE_NEWIPC | f.CLONE_NEWUTS
    assert plan.child[-1] == op.PassSlots("", 0, plan.late_slots) and plan.init[2] == op.ReceiveSlots("", 0, plan.late_slots)
    # what the init closes before it waits has higher numbers than the socket
    (listens,) = of_kind(plan.child, op.ListenForStart)
    assert (listens.slot.owner, listens.slot.index) == ("late", 0)
    # what the clone itself needs is there before it
    assert [type(o) for o in plan.host] == [op.MakeCgroup, op.OpenCgroup]


def test_many_sources_are_passed_in_parts() -> None:
    mounts = [{"destination": f"/m{i}", "source": "/s", "options": ["bind"]} for i in range(300)]
    plan = plan_of(V2, mounts=mounts)
    passed = [(o.first, o.count) for o in of_kind(plan.child, op.PassSlots)]
    assert passed == [(o.first, o.count) for o in of_kind(plan.init, op.ReceiveSlots)]
    assert passed == [(0, 250), (250, plan.late_slots - 250)] and plan.late_slots > 300


def test_a_user_namespaces_sources_are_prepared_before_the_clone() -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    linux = {"namespaces": [{"type": name} for name in ("user", "mount", "network", "uts", "pid")], "uidMappings": mapping,
             "gidMappings": mapping}
    plan = plan_of(V1, linux=linux)
    assert plan.late_slots == 0 and not of_kind(plan.child, op.PassSlots) and not of_kind(plan.init, op.ReceiveSlots)
    assert plan.clone_flags == f.CLONE_NEWUSER | f.CLONE_NEWNS | f.CLONE_NEWNET | f.CLONE_NEWUTS | f.CLONE_NEWPID


# what is bound

BIND = {"destination": "/data", "source": "/s"}
MOUNTS: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "bind": (V2, {**BIND, "type": "none"}, ("rbind",)),
    "cgroup on v2": (V2, {"destination": "/data", "type": "cgroup"}, ()),
    "cgroup on v1": (V1, {"destination": "/data", "type": "cgroup"}, ()),
    "cgroup2 on v1": (V1, {"destination": "/data", "type": "cgroup2"}, ()),
    "tmpfs": (V2, {"destination": "/data", "type": "tmpfs"}, ()),
    "file system": (V2, {"destination": "/data", "type": "ext4", "source": "/dev/x"}, ()),
}
CLEARING = {name for name, (set, _) in ATTRIBUTES.items() if not set}
COPIED = {"bind", "cgroup on v2", "cgroup on v1", "cgroup2 on v1"}


def without_effect(kind: str) -> set[str]:
    """What is bound has a file system already, and of what is mounted anew nothing has to be taken away. On this host there is a cgroup
    namespace, and mounts of cgroups may be written to."""
    if kind in COPIED:
        return {*NOTHING, *FOR_THE_FILE_SYSTEM, *({"bind", "rbind"} if kind == "bind" else ())}
    return {*NOTHING, *CLEARING, *(f"r{name}" for name in CLEARING)}


def plan_with(kind: str, *options: str) -> Plan:
    host, mount, always = MOUNTS[kind]
    return plan_of(host, mounts=[{**mount, "options": [*always, *options]}])


@pytest.mark.parametrize("option", ["copy", "nocopy"])
def test_what_podman_says_of_a_volume_means_nothing(option: str) -> None:
    """It passes on whether it has filled the volume."""
    assert plan_with("bind", "rprivate", option) == plan_with("bind", "rprivate")


@pytest.mark.parametrize("kind", MOUNTS)
def test_an_empty_option_is_none(kind: str) -> None:
    """buildah writes one for a volume without options."""
    assert plan_with(kind, "") == plan_with(kind)


@pytest.mark.conformance(5)
@pytest.mark.parametrize("kind", MOUNTS)
def test_every_option_has_its_effect_on_every_kind_of_mount(kind: str) -> None:
    silent = set()
    refused = set()
    for option in {*EVERY, "size=1k", "x"} - {"idmap", "ridmap"} - (set() if kind == "bind" else {"bind", "rbind"}):
        try:
            if plan_with(kind, option) == plan_with(kind):
                silent.add(option)
        except InvalidBundleError as error:
            assert error.json_path is not None and error.json_path.startswith("$.mounts[0].options["), option
            assert repr(option) in error.reason
            refused.add(option)
    assert silent == without_effect(kind)
    assert refused == ({"size=1k", "x"} if kind in COPIED else set()) | ({"tmpcopyup"} if kind != "tmpfs" else set())


@pytest.mark.parametrize("kind", sorted(COPIED))
@pytest.mark.parametrize("option", ["size=1k", "unknown", "uid=0", "nsdelegate"])
def test_options_of_a_file_system_are_refused_where_none_is_made(kind: str, option: str) -> None:
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_with(kind, "nosuid", option)
    assert raised.value.json_path == f"$.mounts[0].options[{len(MOUNTS[kind][2]) + 1}]" and repr(option) in raised.value.reason
    for other in ("tmpfs", "file system"):
        (made,) = [o for o in of_kind(plan_with(other, option).init, NEW) if o.json_path == "$.mounts[0]"]
        assert option.encode() in made.options


@pytest.mark.conformance(5)
@pytest.mark.parametrize("kind", MOUNTS)
def test_propagation_of_every_kind_of_mount(kind: str) -> None:
    plan = plan_with(kind, "rprivate")
    (last,) = [o for o in of_kind(plan.init, op.SetMountAttributes) if o.json_path == "$.mounts[0].options"]
    assert (last.set, last.clear, last.propagation, last.recursive, last.place) == (0, 0, f.MS_PRIVATE, 1, "/data")
    attach = plan.init[attached(plan, b"/data")]
    assert isinstance(attach, op.AttachMount) and attach.slot == last.slot
    # all that is below is there by then
    assert plan.init.index(last) > max(i for i, o in enumerate(plan.init) if o.json_path.startswith("$.mounts[0]")
                                       and isinstance(o, op.AttachMount | op.MakeLink))


@pytest.mark.conformance(52)
@pytest.mark.parametrize("propagation", [None, "shared", "rshared", "slave", "rprivate", "unbindable"])
def test_a_shared_root_is_nobodys_slave(propagation: str | None) -> None:
    plan = plan_of(V2, linux={} if propagation is None else {"rootfsPropagation": propagation})
    (tree,) = [o for o in of_kind(plan.child, op.OpenTree) if o.json_path == "$.root.path"]
    first = [(o.propagation, o.recursive) for o in of_kind(plan.child, op.SetMountAttributes) if o.slot == tree.slot]
    assert first == ([(f.MS_PRIVATE, 0)] if propagation in ("shared", "rshared") else [])
    last = [(o.path, o.propagation, o.recursive) for o in of_kind(plan.init, op.SetAttributesAt)]
    kinds = {"shared": f.MS_SHARED, "rshared": f.MS_SHARED, "slave": f.MS_SLAVE, "rprivate": f.MS_PRIVATE, "unbindable": f.MS_UNBINDABLE}
    assert last == ([(b"/", kinds[propagation], int(propagation[0] == "r"))] if propagation is not None else [])


@pytest.mark.conformance(53)
def test_protected_paths_are_mounted_on_once() -> None:
    paths = ["/a/b", "/a//b/", "/c", "/a/./b", "/a/b", "/c/../a/b", "/c", "/d/"]
    plan = plan_of(V2, linux={"maskedPaths": paths, "readonlyPaths": paths[2:]})
    # behind a link `..` leads elsewhere
    assert [(o.path, o.json_path) for o in of_kind(plan.init, op.MaskPath)] == [
        (path, f"$.linux.maskedPaths[{i}]") for path, i in ((b"/a/b", 0), (b"/c", 2), (b"/c/../a/b", 5), (b"/d", 7))]
    assert [(o.path, o.json_path) for o in of_kind(plan.init, op.ProtectPath)] == [
        (path, f"$.linux.readonlyPaths[{i}]") for path, i in ((b"/c", 0), (b"/a/b", 1), (b"/c/../a/b", 3), (b"/d", 5))]


def test_cgroup2_is_the_v2_cgroup_whatever_else_the_host_has() -> None:
    for host, path in ((V1, b"/cg/unified/pyruntime/c"), (V2, b"/cg/pyruntime/c")):
        plan = plan_of(host, mounts=[{"destination": "/data", "type": "cgroup2", "options": ["ro"]}])
        (tree,) = [o for o in of_kind(plan.host + plan.child, op.OpenTree) if o.json_path == "$.mounts[0]"]
        assert tree.path == path
        assert [o.path for o in of_kind(plan.init, op.AttachMount) if o.json_path == "$.mounts[0].destination"] == [b"/data"]
    without = Host((6, 1), tuple(hierarchy for hierarchy in V1.hierarchies if not hierarchy.is_v2), 0)
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(without, mounts=[{"destination": "/data", "type": "cgroup2"}])
    assert raised.value.json_path == "$.mounts[0].type"


@pytest.mark.conformance(7)
def test_recursive_options_of_a_new_mount() -> None:
    """There is nothing below it, so that they come after the others."""
    def attributes(kind: str, *options: str) -> int:
        (made,) = [o for o in of_kind(plan_with(kind, *options).init, NEW) if o.json_path == "$.mounts[0]"]
        return int(made.attributes)

    assert attributes("file system", "noatime", "rstrictatime") == f.MOUNT_ATTR_STRICTATIME
    assert attributes("file system", "nosuid", "rsuid", "rnodev") == f.MOUNT_ATTR_NODEV
    # read-only it becomes when it is full
    for kind in ("tmpfs", "cgroup on v1"):
        assert attributes(kind, "rro", "rnosuid") == f.MOUNT_ATTR_NOSUID
        assert [o.set for o in of_kind(plan_with(kind, "rro").init, op.SetMountAttributes) if o.place == "/data"] == [
            f.MOUNT_ATTR_RDONLY]
