"""Containers in groups of resctrl, with a directory that stands for the file system: few machines have one.

What the kernel would do there, the tree does; a process that joins a group writes "0", which is itself, to the group's file `tasks`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lab import Lab, with_mounts

from pyruntime import NativeRuntime
from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.host import read_host
from pyruntime.runtimes import native, resctrl

pytestmark = [pytest.mark.privileged, pytest.mark.conformance(47)]


def fill(path: Path) -> None:
    (path / "tasks").touch()
    (path / "schemata").write_text("    L3:0=7ff\n")
    (path / "mon_groups").mkdir(exist_ok=True)


@pytest.fixture
def tree(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = lab.directory / "resctrl"
    root.mkdir()
    fill(root)

    def make(path: str) -> None:
        os.mkdir(path)
        fill(Path(path))

    def remove(path: str) -> None:
        os.stat(path)
        shutil.rmtree(path)

    monkeypatch.setattr(resctrl, "_make_directory", make)
    monkeypatch.setattr(resctrl, "_remove_directory", remove)
    monkeypatch.setattr(native, "read_host", lambda: msgspec.structs.replace(read_host(), resctrl=str(root)))
    lab.runtime = NativeRuntime(str(lab.root))
    return root


def groups(root: Path) -> dict[str, str]:
    """What was written to `tasks`, by the path below the root; it is empty afterwards."""
    found = {}
    for tasks in sorted(root.rglob("tasks")):
        found[str(tasks.parent.relative_to(root))] = tasks.read_text()
        tasks.write_text("")
    return found


def rdt(**members: Any) -> dict[str, Any]:
    return {"intelRdt": members}


def test_a_group_lives_as_long_as_its_container(lab: Lab, tree: Path) -> None:
    lab.sleeper(linux=rdt(enableMonitoring=True, l3CacheSchema="L3:0=f", schemata=["MB:0=20"]))
    assert groups(tree) == {".": "", "p1": "0", "p1/mon_groups/p1": "0"}
    assert "MB:0=20\n" in (tree / "p1" / "schemata").read_text()
    # what is executed in it is in it, and whoever deletes it removes it
    assert lab.exec("echo fine") == "fine\n"
    assert groups(tree) == {".": "", "p1": "0", "p1/mon_groups/p1": "0"}
    NativeRuntime(str(lab.root)).delete_container("p1", force=True)
    assert groups(tree) == {".": ""}


def test_a_group_with_a_name_outlives_its_containers(lab: Lab, tree: Path) -> None:
    for id in ("p1", "p2"):
        lab.sleeper(id, linux=rdt(closID="g", l3CacheSchema="L3:0=7ff", enableMonitoring=True))
    assert groups(tree) == {".": "", "g": "0", "g/mon_groups/p1": "0", "g/mon_groups/p2": "0"}
    for id in ("p1", "p2"):
        lab.runtime.delete_container(id, force=True)
    assert groups(tree) == {".": "", "g": ""}


def test_the_default_group(lab: Lab, tree: Path) -> None:
    lab.sleeper(linux=rdt(closID="/"))
    assert groups(tree) == {".": "0"}
    lab.runtime.delete_container("p1", force=True)
    assert groups(tree) == {".": ""}


@pytest.mark.parametrize("members", [{}, {"closID": "g", "schemata": ["L3:0=1"], "enableMonitoring": True}])
def test_a_container_that_is_not_made_leaves_no_group(lab: Lab, tree: Path, members: dict[str, Any]) -> None:
    def forget_the_dead() -> None:
        groups(tree)  # the kernel takes a process that has ended off its list

    bundle = {"linux": rdt(**members), "mounts": with_mounts({"destination": "/x", "type": "nonefs"})}
    undo = resctrl.ResctrlGroups.undo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resctrl.ResctrlGroups, "undo", lambda self: (forget_the_dead(), undo(self)))
        with pytest.raises(SetupError, match="nonefs|new filesystem"):
            lab.create("true", **bundle)
    assert groups(tree) == {".": ""} and not lab.runtime.container_exists("p1")


def test_a_group_that_cannot_be_joined(lab: Lab, tree: Path) -> None:
    """A name that is another thing there."""
    (tree / "info").mkdir()
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=rdt(closID="info"))
    error = raised.value
    assert (error.step, error.path, error.errno_name, error.json_path) == ("open tasks", f"{tree}/info/tasks", "ENOENT", "$.linux.intelRdt")
    assert (tree / "info").is_dir() and not lab.runtime.container_exists("p1")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_an_interrupted_creation_leaves_is_removed_by_force(lab: Lab, tree: Path, is_damaged: bool) -> None:
    lab.create("true", linux=rdt())
    state = lab.root / "p1" / "state.json"
    if is_damaged:
        state.write_text("{")
    else:
        state.rename(f"{state}.new")
    NativeRuntime(str(lab.root)).delete_container("p1", force=True)
    assert groups(tree) == {".": ""} and not lab.runtime.container_exists("p1")


def test_a_machine_without_resctrl(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "read_host", lambda: msgspec.structs.replace(read_host(), resctrl=None))
    lab.runtime = NativeRuntime(str(lab.root))
    with pytest.raises(UnsupportedFieldError, match="resctrl, which is not mounted on this host") as raised:
        lab.create("true", linux=rdt(closID="g"))
    assert raised.value.json_path == "$.linux.intelRdt" and raised.value.file is not None
    assert not lab.runtime.container_exists("p1")


def test_schemata_are_changed_while_a_container_runs(lab: Lab, tree: Path) -> None:
    """What is put into a group that the container did not have stays in it, and goes with it."""
    lab.sleeper(linux=rdt(closID="g", l3CacheSchema="L3:0=7ff"))
    lab.runtime.update_container("p1", {"pids": {"limit": 50}}, intel_rdt={"memBwSchema": "MB:0=30"})
    assert (tree / "g" / "schemata").read_text().startswith("MB:0=30\n")  # at the beginning of what is a file here
    lab.sleeper("p2")
    assert groups(tree) == {".": "", "g": "0"}
    lab.runtime.update_container("p2", {}, intel_rdt={"l3CacheSchema": "L3:0=f"})
    assert groups(tree) == {".": "", "g": "", "p2": f"{lab.runtime.get_init_pid('p2')}\n"}
    other = NativeRuntime(str(lab.root))
    assert lab.exec("echo fine", id="p2") == "fine\n"
    assert groups(tree) == {".": "", "g": "", "p2": "0"}
    other.delete_container("p2", force=True)
    assert groups(tree) == {".": "", "g": ""}


def test_a_group_is_not_made_where_another_part_fails(lab: Lab, tree: Path) -> None:
    lab.sleeper()
    undo = resctrl.ResctrlGroups.undo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resctrl.ResctrlGroups, "undo", lambda self: (groups(tree), undo(self)))
        with pytest.raises(SetupError) as raised:
            lab.runtime.update_container("p1", {"cpu": {"cpus": "4000"}}, intel_rdt={"l3CacheSchema": "L3:0=f"})
    assert raised.value.json_path == "$.cpu.cpus" and groups(tree) == {".": ""}
    lab.runtime.delete_container("p1", force=True)
