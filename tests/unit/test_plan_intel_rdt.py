"""Groups of resctrl: in the plan, and what is made of them in a tree that stands for the file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_plan import V1, V2, kinds, plan_of

from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import operations as op
from pyruntime.plan.compile import compile_exec
from pyruntime.plan.intel_rdt import PATH, ResctrlGroup, group_of, has_schema
from pyruntime.plan.operations import Plan
from pyruntime.runtimes import resctrl
from pyruntime.runtimes.resctrl import ResctrlGroups, remove_groups
from pyruntime.spec import decode_process, load_spec
from pyruntime.state.record import ResctrlRecord
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.conformance(47)

HOST = msgspec.structs.replace(V1, resctrl="/resctrl")
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def group(id: str = "c", host: Host = HOST, **rdt: Any) -> ResctrlGroup:
    config = default_config()
    config["linux"]["intelRdt"] = rdt
    found = load_spec(msgspec.json.encode(config)).linux.intel_rdt
    assert found is not None
    return group_of(found, host, id)


def joined(plan: Plan) -> list[bytes]:
    return [operation.path for operation in plan.init if isinstance(operation, op.JoinCgroup) and operation.json_path == PATH]


@pytest.mark.parametrize(("rdt", "paths"), [
    ({}, ["/resctrl/c"]),
    ({"closID": "g"}, ["/resctrl/g"]),
    ({"closID": "/"}, ["/resctrl"]),
    ({"enableMonitoring": True}, ["/resctrl/c", "/resctrl/c/mon_groups/c"]),
    ({"closID": "g", "enableMonitoring": True}, ["/resctrl/g", "/resctrl/g/mon_groups/c"]),
    ({"closID": "/", "enableMonitoring": True}, ["/resctrl", "/resctrl/mon_groups/c"]),
])
@pytest.mark.parametrize("host", [V1, V2], ids=["v1", "v2"])
def test_which_groups_are_joined(host: Host, rdt: dict[str, Any], paths: list[str]) -> None:
    """First the one, then the monitoring group in it; by files that the host opens, before anything else is done."""
    plan = plan_of(msgspec.structs.replace(host, resctrl="/resctrl"), linux={"intelRdt": rdt})
    tasks = [f"{path}/tasks".encode() for path in paths]
    assert joined(plan) == tasks
    assert [operation.path for operation in plan.child if isinstance(operation, op.OpenTasks) and operation.json_path == PATH] == tasks
    found = kinds(plan)
    assert len(found) - found[::-1].index(op.JoinCgroup) < found.index(op.IsolatePropagation)


def test_in_a_user_namespace() -> None:
    """The host opens the files before the clone."""
    namespaces = [{"type": kind} for kind in ("user", "mount", "pid")]
    plan = plan_of(HOST, hostname=None, linux={"intelRdt": {}, "namespaces": namespaces, "uidMappings": MAPPING, "gidMappings": MAPPING})
    assert joined(plan) == [b"/resctrl/c/tasks"] == [o.path for o in plan.host if isinstance(o, op.OpenTasks) and o.json_path == PATH]


def test_without_it_nothing_is_touched() -> None:
    assert "resctrl" not in str(plan_of(HOST))
    process = decode_process({"args": ["x"], "cwd": "/"})
    assert joined(compile_exec(process, (), 0, "c")) == []
    # what is executed in a container is where its init is
    assert joined(compile_exec(process, (), 0, "c", resctrl=("/r/g", "/r/g/mon_groups/c"))) == [b"/r/g/tasks", b"/r/g/mon_groups/c/tasks"]


@pytest.mark.parametrize("rdt", [{}, {"closID": "g"}])
def test_a_host_without_resctrl(rdt: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError, match="resctrl, which is not mounted on this host") as raised:
        plan_of(V2, linux={"intelRdt": rdt})
    assert raised.value.json_path == PATH


@pytest.mark.parametrize(("wanted", "is_there"), [
    ("L3:0=7f0;1=1f", True), ("L3:1=1f;0=7f0", True), ("L3:0=07F0", True), ("L3: 0=0x7f0 ; 01=1f ;", True), ("L3:0=7f0", True),
    ("MB:0=20;1=70", True), ("MB:0=15;1=61", True), ("L3:0=7f0\nMB:0=20", True), ("L2:0=z", True), ("L3:", True),
    ("L3:0=7f1", False), ("L3:0=7f0;2=1", False), ("MB:0=21", False), ("MB:0=10", False), ("MB:0=0x14", False), ("L3CODE:0=7f0", False),
    ("L2:0=f", False), ("L3:0=7f0\nMB:0=30", False), ("L3:0=x", False),
])
def test_schemata_are_compared_by_what_they_mean(wanted: str, is_there: bool) -> None:
    schemata = "    L3:0=7f0;1=01f\n    MB:0= 20;1=  70\n    L2:0=z\n"
    assert has_schema(wanted, schemata, bandwidth_step=10) is is_there


class Tree:
    """A directory in which directories are made and removed as the kernel does it in resctrl."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.schemata = "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n"
        self.fill(root)
        (root / "info" / "MB").mkdir(parents=True)
        (root / "info" / "MB" / "bandwidth_gran").write_text("10\n")
        (root / "info" / "last_cmd_status").write_text("ok\n")
        self.writes: list[tuple[str, str]] = []
        monkeypatch.setattr(resctrl, "_make_directory", self.make_group)
        monkeypatch.setattr(resctrl, "_remove_directory", self.remove)
        write = os.write

        def note(descriptor: int, data: bytes) -> int:
            self.writes.append((str(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(root)), data.decode()))
            return write(descriptor, data)

        monkeypatch.setattr(resctrl.os, "write", note)

    def fill(self, path: Path) -> None:
        (path / "tasks").touch()
        if path.parent.name != "mon_groups":
            (path / "schemata").write_text(self.schemata)
            (path / "mon_groups").mkdir()

    def make_group(self, path: str) -> None:
        os.mkdir(path)
        self.fill(Path(path))

    def remove(self, path: str) -> None:
        os.stat(path)
        shutil.rmtree(path)

    def groups(self) -> list[str]:
        """With those for monitoring."""
        return sorted(str(path.parent.relative_to(self.root)) for path in self.root.rglob("tasks"))

    def group(self, **rdt: Any) -> ResctrlGroup:
        return group(host=msgspec.structs.replace(HOST, resctrl=str(self.root)), **rdt)

    def make(self, **rdt: Any) -> ResctrlRecord:
        """What was noted before is what is removed."""
        noted: list[tuple[str, ...]] = []

        def note(paths: tuple[str, ...]) -> None:
            assert not any(Path(path).exists() for path in paths)
            noted.append(paths)

        record = ResctrlGroups(self.group(**rdt)).make(note)
        assert noted == [record.removed]
        return record

    def record(self, paths: list[str], removed: list[str]) -> ResctrlRecord:
        return ResctrlRecord(tuple(f"{self.root}/{path}" for path in paths), tuple(f"{self.root}/{path}" for path in removed))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_a_group_of_the_containers_name(tree: Tree) -> None:
    """It is made, written to in the order of the specification, and removed with the container."""
    record = tree.make(schemata=["L2:0=f", "L3:1=3"], memBwSchema="MB:0=20", l3CacheSchema="L3:0=7f0", enableMonitoring=True)
    assert record == tree.record(["c", "c/mon_groups/c"], ["c/mon_groups/c", "c"])
    assert tree.writes == [("c/schemata", line) for line in ("L3:0=7f0\n", "MB:0=20\n", "L2:0=f\n", "L3:1=3\n")]
    assert tree.groups() == [".", "c", "c/mon_groups/c"]
    remove_groups(record.removed)
    assert tree.groups() == ["."]
    remove_groups(record.removed)  # the kernel has removed the monitoring group with the other one


def test_without_schemas_nothing_is_written(tree: Tree) -> None:
    assert tree.make() == tree.record(["c"], ["c"])
    assert tree.writes == [] and tree.groups() == [".", "c"]


def test_a_group_of_the_containers_name_that_is_there_already_stays(tree: Tree) -> None:
    tree.make_group(f"{tree.root}/c")
    record = tree.make(l3CacheSchema="L3:0=1")
    assert record == tree.record(["c"], []) and tree.writes == [("c/schemata", "L3:0=1\n")]
    remove_groups(record.removed)
    assert tree.groups() == [".", "c"]


def test_a_named_group_is_made_and_stays(tree: Tree) -> None:
    record = tree.make(closID="g", memBwSchema="MB:0=20", enableMonitoring=True)
    assert record == tree.record(["g", "g/mon_groups/c"], ["g/mon_groups/c"])
    assert tree.writes == [("g/schemata", "MB:0=20\n")]
    remove_groups(record.removed)
    assert tree.groups() == [".", "g"]


@pytest.mark.parametrize("name", ["g", "/"])
def test_a_named_group_that_is_there_is_used(tree: Tree, name: str) -> None:
    if name == "g":
        tree.make_group(f"{tree.root}/g")
    record = tree.make(closID=name)
    assert record.removed == () and record.paths == (str(tree.root) if name == "/" else f"{tree.root}/g",)
    assert tree.writes == []


def test_a_named_group_of_which_nothing_is_said_has_to_be_there(tree: Tree) -> None:
    with pytest.raises(SetupError) as raised:
        tree.make(closID="g", enableMonitoring=True)
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == ("find resctrl group", f"{tree.root}/g", "ENOENT", f"{PATH}.closID")
    assert tree.groups() == ["."]


def test_a_named_group_that_is_there_has_to_have_the_same_schemas(tree: Tree) -> None:
    tree.schemata = "    L3:0=7f0;1=1f\n    MB:0=20;1=70\n"
    tree.make_group(f"{tree.root}/g")
    record = tree.make(closID="g", l3CacheSchema="L3:1=1f;0=7f0", memBwSchema="MB:0=11", schemata=["L2:0=1"])
    assert record.removed == () and tree.writes[-1] == ("g/schemata", "L2:0=1\n")
    tree.writes.clear()
    (tree.root / "g" / "schemata").write_text(tree.schemata)
    for field, value in (("l3CacheSchema", "L3:0=7f1"), ("memBwSchema", "MB:0=70")):
        with pytest.raises(SetupError, match="the group exists and has 'L3:0=7f0;1=1f; MB:0=20;1=70', not") as raised:
            tree.make(closID="g", **{field: value})
        assert (raised.value.step, raised.value.json_path) == ("compare schemata", f"{PATH}.{field}")
    assert tree.writes == [] and tree.groups() == [".", "g"]


def test_what_the_kernel_refuses(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it says besides; nothing is left of it."""
    status = tree.root / "info" / "last_cmd_status"

    def refuse(descriptor: int, data: bytes) -> int:
        status.write_text("Mask out of range\n")
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(resctrl.os, "write", refuse)
    groups = ResctrlGroups(tree.group(closID="g", schemata=["L3:0=fffff"]))
    with pytest.raises(SetupError) as raised:
        groups.make(lambda paths: None)
    error = raised.value
    assert (error.step, error.errno_name, error.json_path) == ("write schemata", "EINVAL", f"{PATH}.schemata[0]")
    assert error.detail == "Mask out of range"
    groups.undo()
    assert tree.groups() == ["."]


def test_no_group_is_left_for_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are as many as the processor has classes of service."""
    def refuse(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resctrl, "_make_directory", refuse)
    for rdt, json_path in (({}, PATH), ({"closID": "g", "schemata": ["L3:0=1"]}, f"{PATH}.closID"),
                           ({"closID": "/", "enableMonitoring": True}, f"{PATH}.enableMonitoring")):
        with pytest.raises(SetupError) as raised:
            tree.make(**rdt)
        assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("make resctrl group", "ENOSPC", json_path)


def test_a_monitoring_group_is_the_containers_own(tree: Tree) -> None:
    tree.make_group(f"{tree.root}/g")
    tree.make_group(f"{tree.root}/g/mon_groups/c")
    with pytest.raises(SetupError) as raised:
        tree.make(closID="g", enableMonitoring=True)
    assert (raised.value.errno_name, raised.value.json_path) == ("EEXIST", f"{PATH}.enableMonitoring")
    assert tree.groups() == [".", "g", "g/mon_groups/c"]


def test_taking_back_leaves_what_others_have_joined(tree: Tree) -> None:
    groups = ResctrlGroups(tree.group(closID="g", schemata=["L3:0=1"], enableMonitoring=True))
    groups.make(lambda paths: None)
    (tree.root / "g" / "tasks").write_text("1234\n")
    groups.undo()
    assert tree.groups() == [".", "g"]
    (tree.root / "g" / "tasks").write_text("\n")
    groups.undo()
    assert tree.groups() == ["."]
