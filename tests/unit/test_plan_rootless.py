"""Containers of callers without privileges: who maps their ids, what the init does, what they cannot have, what a failure comes from."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host, Unprivileged, parse_own_cgroup
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, compile, compile_exec
from pyruntime.plan.operations import Operation, Plan
from pyruntime.runtimes import hints
from pyruntime.runtimes.process_tree import descendants
from pyruntime.spec import IDMapping, Spec, decode_process, load_spec
from pyruntime.spec.default_config import default_config, rootless_config
from pyruntime.state.store import DEFAULT_ROOT, root_for
from pyruntime.testing.bundles import merge

CALLER = Unprivileged(1000, 1001, "/usr/bin/newuidmap", "/usr/bin/newgidmap")
V2 = (Hierarchy("/cg", True),)
ROOTLESS = Host((6, 1), V2, 0, caller=CALLER)
DELEGATED = msgspec.structs.replace(ROOTLESS, delegated="/user.slice")
IN_NAMESPACE = Host((6, 1), V2, 2**41 - 1, in_user_namespace=True)
PLACE = Place("c", "/b", "/b/rootfs", "/run/c")
RANGE = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]


def spec_of(**changes: Any) -> Spec:
    config = rootless_config(1000, 1001)
    config["process"]["terminal"] = False
    merge(config, changes)
    return load_spec(json.dumps(config).encode())


def plan_of(host: Host = ROOTLESS, **changes: Any) -> Plan:
    return compile(spec_of(**changes), host, PLACE)


def index(operations: tuple[Operation, ...], kind: type) -> int:
    return [type(operation) for operation in operations].index(kind)


# id maps


@pytest.mark.conformance(29)
def test_own_ids_are_mapped_without_help() -> None:
    plan = plan_of()
    maps = [(o.path, o.value) for o in plan.child if isinstance(o, op.WriteChildProc)]
    # setgroups before gid_map, as the kernel demands
    assert maps == [(b"setgroups", b"deny"), (b"uid_map", b"0 1000 1\n"), (b"gid_map", b"0 1001 1\n")]
    assert not any(isinstance(o, op.MapChildIds) for o in plan.child) and plan.is_traceable


@pytest.mark.conformance(29)
def test_ranges_are_mapped_by_the_programs() -> None:
    plan = plan_of(linux={"uidMappings": RANGE, "gidMappings": RANGE})
    assert [(o.path, o.arguments) for o in plan.child if isinstance(o, op.MapChildIds)] == [
        (f"/usr/bin/{name}".encode(), (f"/usr/bin/{name}".encode(), b"", b"0", b"1000", b"1", b"1", b"100000", b"65536"))
        for name in ("newuidmap", "newgidmap")]
    assert not any(isinstance(o, op.WriteChildProc) for o in plan.child) and plan.is_traceable


@pytest.mark.parametrize(("field", "program"), [("uidMappings", "newuidmap"), ("gidMappings", "newgidmap")])
def test_a_missing_program_is_named(field: str, program: str) -> None:
    host = msgspec.structs.replace(ROOTLESS, caller=Unprivileged(1000, 1001))
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(host, linux={field: RANGE})
    assert raised.value.json_path == f"$.linux.{field}" and program in raised.value.reason and "uidmap" in raised.value.reason


def test_root_writes_ranges_itself() -> None:
    for host in (Host((6, 1), V2, 0), IN_NAMESPACE):
        plan = plan_of(host, linux={"uidMappings": RANGE, "gidMappings": RANGE})
        assert [o.path for o in plan.child if isinstance(o, op.WriteChildProc)] == [b"uid_map", b"gid_map"]
        # the kernel takes the init for the first root's until its ids are mapped
        assert plan.is_traceable is host.in_user_namespace


@pytest.mark.conformance(14, 29)
def test_groups_cannot_be_set_where_setgroups_is_denied() -> None:
    """The group is mapped; that the caller's own gid is the only one is what denies it."""
    with pytest.raises(InvalidBundleError) as raised:
        plan_of(process={"user": {"additionalGids": [0]}})
    assert raised.value.json_path == "$.process.user.additionalGids" and "setgroups" in raised.value.reason
    identity = next(o for o in plan_of().init if isinstance(o, op.SetIdentity))
    assert identity.setgroups == flags.SETGROUPS_DENIED
    allowed = plan_of(linux={"gidMappings": RANGE}, process={"user": {"additionalGids": [5]}})
    assert next(o for o in allowed.init if isinstance(o, op.SetIdentity)).setgroups == flags.SETGROUPS_ALLOWED
    process = decode_process({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [0]}})
    with pytest.raises(InvalidBundleError) as raised:
        compile_exec(process, (), flags.CLONE_NEWUSER, "c", is_rootless=True, denies_setgroups=True)
    assert raised.value.json_path == "$.user.additionalGids"


def test_the_callers_groups_are_kept_for_who_asks_for_them() -> None:
    """As crun does for the annotation; the groups of the process count for nothing then, and nothing else has this value."""
    wanted = {"annotations": {"run.oci.keep_original_groups": "1"}, "process": {"user": {"additionalGids": [0]}}}
    for kept, changes in ((1, wanted), (0, {"annotations": {"run.oci.keep_original_groups": "0"}})):
        init = plan_of(**changes).init
        assert [o.keeps_groups for o in init if isinstance(o, op.BecomeNamespaceRoot)] == [kept]
        identity = next(o for o in init if isinstance(o, op.SetIdentity))
        assert identity.setgroups == (flags.SETGROUPS_NOT_WANTED if kept else flags.SETGROUPS_DENIED)
    process = decode_process({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [0]}})
    init = compile_exec(process, (), flags.CLONE_NEWUSER, "c", denies_setgroups=True, keeps_groups=True).init
    assert [o.keeps_groups for o in init if isinstance(o, (op.JoinProcessNamespaces, op.BecomeNamespaceRoot))] == [1, 1]
    assert next(o for o in init if isinstance(o, op.SetIdentity)).setgroups == flags.SETGROUPS_NOT_WANTED


# what the init does itself


def test_the_host_copies_no_mounts() -> None:
    """That takes CAP_SYS_ADMIN in the caller's mount namespace."""
    plan = plan_of()
    assert not any(isinstance(o, (op.OpenTree, op.SetMountAttributes)) for o in plan.host + plan.child)
    init = plan.init
    # with the caller's rights on the directories above; until AwaitRelease it is traceable, and has joined and opened nothing
    assert {type(o) for o in init[:index(init, op.AwaitRelease)]} <= {op.ResetAffinity}
    assert index(init, op.AwaitRelease) < index(init, op.OpenTree) < index(init, op.BecomeNamespaceRoot)
    last = max(i for i, o in enumerate(init) if isinstance(o, op.OpenTree))
    assert last < index(init, op.BecomeNamespaceRoot)


def test_root_in_a_user_namespace_opens_mounts_once_it_has_its_own_mount_namespace() -> None:
    config = default_config()
    config["process"]["terminal"] = False
    plan = compile(load_spec(json.dumps(config).encode()), IN_NAMESPACE, PLACE)
    assert not any(isinstance(o, op.OpenTree) for o in plan.host + plan.child)
    assert index(plan.init, op.UnshareNamespaces) < index(plan.init, op.OpenTree) < index(plan.init, op.PivotRoot)
    # no device can be made there
    assert not any(isinstance(o, op.MakeNode) for o in plan.init)


def test_where_hooks_look_for_the_root_is_opened_with_the_callers_rights() -> None:
    plan = plan_of(hooks={"createRuntime": [{"path": "/bin/true"}]})
    assert 0 < index(plan.init, op.OpenRootPlace) < index(plan.init, op.BecomeNamespaceRoot)


def test_a_user_namespace_is_needed() -> None:
    namespaces = [n for n in rootless_config(1000, 1001)["linux"]["namespaces"] if n["type"] != "user"]
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(linux={"namespaces": namespaces, "uidMappings": None, "gidMappings": None})
    assert raised.value.json_path == "$.linux.namespaces" and "1000" in raised.value.reason


def test_a_mount_namespace_cannot_be_joined() -> None:
    namespaces = [*({"type": kind} for kind in ("pid", "user")), {"type": "mount", "path": "/proc/1/ns/mnt"}]
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(hostname=None, linux={"namespaces": namespaces})
    assert raised.value.json_path == "$.linux.namespaces[2].path"


# cgroups


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("host", "path", "expected"), [
    (DELEGATED, None, "/cg/user.slice/pyruntime/c"), (DELEGATED, "a/b", "/cg/user.slice/a/b"), (DELEGATED, "/a/b", "/cg/a/b"),
    (ROOTLESS, "/a/b", "/cg/a/b"), (ROOTLESS, None, None)])
def test_cgroups_are_made_where_they_are_delegated(host: Host, path: str | None, expected: str | None) -> None:
    plan = plan_of(host, linux={"cgroupsPath": path, "resources": {"memory": {"limit": 1 << 26}} if expected else {}})
    made = [o.path.decode() for o in plan.host if isinstance(o, op.MakeCgroup)]
    assert made == ([expected] if expected else []) and (plan.cgroup is not None) == bool(expected)
    assert [o.path.decode() for o in plan.host if isinstance(o, op.WriteFile)] == ([f"{expected}/memory.max"] if expected else [])
    # BPF_PROG_TYPE_CGROUP_DEVICE takes privileges
    assert not any(isinstance(o, op.AttachDeviceProgram) for o in plan.host)


@pytest.mark.parametrize(("resources", "field"), [
    ({"memory": {"limit": 1 << 26}}, "memory.limit"), ({"pids": {"limit": 10}}, "pids.limit"), ({"cpu": {"shares": 100}}, "cpu.shares"),
    ({"unified": {"memory.high": "1"}}, 'unified["memory.high"]')])
def test_limits_that_cannot_hold_are_refused(resources: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(linux={"resources": resources})
    assert raised.value.json_path == f"$.linux.resources.{field}" and "delegated" in raised.value.reason


def test_a_cgroup_below_what_is_not_delegated_is_refused() -> None:
    with pytest.raises(UnsupportedFieldError) as raised:
        plan_of(linux={"cgroupsPath": "a/b"})
    assert raised.value.json_path == "$.linux.cgroupsPath" and "'a/b'" in raised.value.reason


def test_devices_and_nothing_are_no_limits() -> None:
    plan_of(linux={"resources": {"devices": [{"allow": False, "access": "rwm"}], "memory": {}, "cpu": {}, "pids": {"limit": None}}})


def test_own_cgroup() -> None:
    assert parse_own_cgroup("12:cpu:/a\n0::/user.slice/x\n") == "/user.slice/x"
    assert parse_own_cgroup("0::/\n") == "" and parse_own_cgroup("1:name=systemd:/\n") is None


def _cgroup_mounts(plan: Plan) -> list[Operation]:
    return [o for o in plan.init + plan.host if o.json_path.startswith("$.mounts[6]")]


def test_cgroups_of_the_host_are_not_to_be_written() -> None:
    """CVE-2023-25809: without a cgroup namespace they would belong to who is root in the container."""
    mounts = [*rootless_config(1000, 1001)["mounts"]]
    mounts[6] = {**mounts[6], "options": ["rw"]}
    without = [n for n in rootless_config(1000, 1001)["linux"]["namespaces"] if n["type"] != "cgroup"]
    (hidden,) = [o for o in _cgroup_mounts(plan_of(mounts=mounts, linux={"namespaces": without})) if isinstance(o, op.NewFilesystem)]
    assert hidden.type == b"tmpfs" and hidden.attributes & flags.MOUNT_ATTR_RDONLY
    plan = plan_of(DELEGATED, mounts=mounts, linux={"namespaces": without})
    shown = [o for o in _cgroup_mounts(plan) if isinstance(o, op.SetMountAttributes)]
    assert [o.set & flags.MOUNT_ATTR_RDONLY for o in shown] == [flags.MOUNT_ATTR_RDONLY]
    own = [o for o in _cgroup_mounts(plan_of(DELEGATED, mounts=mounts)) if isinstance(o, op.SetMountAttributes)]
    assert not any(o.set & flags.MOUNT_ATTR_RDONLY for o in own)


@pytest.mark.parametrize("source", ["/sys", "/sys/", "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice"])
def test_a_bound_sys_is_read_only_with_the_cgroups_below_it(source: str) -> None:
    """Engines, and runc's own default for such users, say `ro`, which is of /sys alone."""
    mounts = [{"destination": "/sys", "type": "none", "source": source, "options": ["rbind", "ro"]}]
    attributes = [o for o in plan_of(mounts=mounts).init if isinstance(o, op.SetMountAttributes) and o.json_path.startswith("$.mounts")]
    assert any(o.set & flags.MOUNT_ATTR_RDONLY and o.recursive for o in attributes)


# cgroup ownership

USER = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 1000}]}
HYBRID = Host((6, 1), (Hierarchy("/cg/memory", False, ("memory", "devices")), Hierarchy("/cg/unified", True)), 0)


@pytest.mark.conformance(36)
@pytest.mark.parametrize(("host", "namespaces", "option", "uid", "expected"), [
    (Host((6, 1), V2, 0), ("cgroup", "user"), "rw", 0, 100000),
    (Host((6, 1), V2, 0), ("cgroup", "user"), "rw", 7, 100007),
    (Host((6, 1), V2, 0), ("cgroup", "user"), "ro", 0, None),
    (Host((6, 1), V2, 0), ("cgroup", "user"), "rro", 0, None),
    (Host((6, 1), V2, 0), ("user",), "rw", 0, None),
    (Host((6, 1), V2, 0), ("cgroup",), "rw", 0, None),
    (Host((6, 1), V2, 0), ("cgroup",), "rw", 7, 7),
    (HYBRID, ("cgroup", "user"), "rw", 0, None),
    (DELEGATED, ("cgroup", "user"), "rw", 0, None)])
def test_owner_of_the_cgroup(host: Host, namespaces: tuple[str, ...], option: str, uid: int, expected: int | None) -> None:
    config = default_config()
    config["process"]["terminal"] = False
    config["process"]["user"] = {"uid": uid, "gid": 0}
    config["mounts"][6]["options"] = [option]
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", *namespaces)]
    config.pop("hostname")
    config["linux"] |= USER if "user" in namespaces else {}
    if host is DELEGATED:
        config["linux"] |= {name: RANGE for name in USER}
    plan = compile(load_spec(json.dumps(config).encode()), host, PLACE)
    found = [(o.path, o.uid, o.json_path) for o in plan.host if isinstance(o, op.OwnCgroup)]
    assert found == ([] if expected is None else [(b"/cg/pyruntime/c", expected, "$.mounts[6]")])


# hints

NAMESPACE_ROWS = [
    (errno.ENOSPC, {"user/max_user_namespaces": "0"}, False, "user.max_user_namespaces is 0"),
    (errno.ENOSPC, {"user/max_user_namespaces": "9", "user/max_mnt_namespaces": "0"}, False, "user.max_mnt_namespaces is 0"),
    (errno.ENOSPC, {"user/max_user_namespaces": "9"}, False, "nested too deep"),
    (errno.EPERM, {"kernel/unprivileged_userns_clone": "0"}, False, "kernel.unprivileged_userns_clone is 0"),
    (errno.EPERM, {"kernel/unprivileged_userns_clone": "1", "kernel/apparmor_restrict_unprivileged_userns": "1"}, True,
     "kernel.apparmor_restrict_unprivileged_userns is 1"),
    (errno.EPERM, {}, True, "filter of system calls"),
    (errno.EPERM, {}, False, "chroot"),
    (errno.ENOSYS, {}, True, "filter of system calls"),
    (errno.EINVAL, {}, False, "no user namespaces"),
]


@pytest.mark.parametrize(("number", "switches", "is_filtered", "words"), NAMESPACE_ROWS)
def test_what_forbids_user_namespaces(number: int, switches: dict[str, str], is_filtered: bool, words: str) -> None:
    hint = hints.namespace_hint(number, switches, is_filtered, spec_of().linux)
    assert hint is not None and words in hint


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN, errno.ENOSYS])
def test_what_says_enough_has_no_hint(number: int) -> None:
    assert hints.namespace_hint(number, {}, False, spec_of().linux) is None


@pytest.mark.parametrize(("text", "expected"), [
    ("", "`bob:100000:65536`"), ("alice:100000:65536\n", "`bob:100000:65536`"), ("bob:100000:1000\n", "100000 to 165535"),
    ("bob:100000:65536\n", None), ("1000:100000:65536\n", None), ("bob:99000:900000\n", None), ("bob:x:y\nbob\n", "`bob:100000:65536`")])
def test_which_line_of_subuid_is_missing(text: str, expected: str | None) -> None:
    mappings = [IDMapping(container_id=m["containerID"], host_id=m["hostID"], size=m["size"]) for m in RANGE]
    hint = hints.subid_hint("/etc/subuid", text, "bob", 1000, mappings, 1000)
    assert (hint is None) == (expected is None) and (hint is None or (expected or "") in hint and "/etc/subuid" in hint)


@pytest.mark.parametrize(("mount", "number", "words"), [
    ({"type": "sysfs"}, errno.EPERM, "/sys of the host can be bound"), ({"type": "proc"}, errno.EPERM, "covered"),
    ({"type": "devpts", "options": ["gid=5"]}, errno.EINVAL, "gid=5 is not mapped"), ({"type": "ext4"}, errno.EPERM, "ext4"),
    ({"type": "tmpfs", "options": ["gid=0"]}, errno.EINVAL, None), ({"type": "tmpfs"}, errno.ENOMEM, None)])
def test_file_systems_that_cannot_be_mounted(mount: dict[str, Any], number: int, words: str | None) -> None:
    spec = spec_of(mounts=[{"destination": "/x", "source": "x", **mount}])
    hint = hints.filesystem_hint(SetupError("new filesystem", "/x", number, "$.mounts[0]"), spec)
    assert (hint is None) == (words is None) and (hint is None or (words or "") in hint)


def test_a_hint_is_added_to_what_failed() -> None:
    error = SetupError("open tree", "/data", errno.EINVAL, "$.mounts[7].source", "open_tree")
    told = hints.explain(error, spec_of(), ROOTLESS)
    assert (told.step, told.path, told.errno, told.json_path) == (error.step, error.path, error.errno, error.json_path)
    assert "rbind" in told.detail and str(told).endswith("EINVAL: Invalid argument")
    config = default_config()
    assert hints.explain(error, load_spec(json.dumps(config).encode()), Host((6, 1), V2, 0)) is error


# the root directory, the document, the processes


@pytest.mark.parametrize("value", ["", "relative", None])
def test_a_user_without_a_runtime_directory(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    with pytest.raises(SetupError, match="XDG_RUNTIME_DIR"):
        root_for(DEFAULT_ROOT, True)
    assert root_for("/other", True) == "/other" and root_for(DEFAULT_ROOT, False) == DEFAULT_ROOT


def test_the_users_root_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert root_for(DEFAULT_ROOT, True) == f"{tmp_path}/pyruntime"


def test_the_document_for_a_user() -> None:
    """As runc's, but that /sys is read-only to its bottom."""
    config = rootless_config(1000, 1001)
    options = {mount["destination"]: mount.get("options", []) for mount in config["mounts"]}
    assert not any(option.startswith(("uid=", "gid=")) for found in options.values() for option in found)
    assert options["/sys"] == ["rbind", "nosuid", "noexec", "nodev", "rro"] and "resources" not in config["linux"]
    assert {n["type"] for n in config["linux"]["namespaces"]} == {"pid", "ipc", "uts", "mount", "cgroup", "user"}
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert "gid=5" in default_config()["mounts"][2]["options"]


def test_a_containers_processes_without_a_cgroup() -> None:
    assert descendants({5, 9}, {1: 0, 5: 1, 6: 5, 7: 6, 8: 1, 9: 1, 10: 9, 5000: 8}) == {5, 6, 7, 9, 10}
