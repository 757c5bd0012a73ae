"""Other schemata for a container that runs, with a directory that stands for the file system resctrl."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.runtimes import resctrl
from pyruntime.runtimes.resctrl_update import changed_group
from pyruntime.state.record import ContainerRecord, ResctrlRecord

pytestmark = pytest.mark.conformance(47)


def fill(path: Path) -> None:
    (path / "tasks").touch()
    (path / "schemata").write_text("    L3:0=7ff\n    MB:0=100\n")


class Tree:
    """A resctrl that keeps what is written to it, and the notes that are made of groups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[tuple[str, ...]] = []
        self.host = Host((6, 18), (), 0, resctrl=str(root))
        fill(root)

    def change(self, record: ContainerRecord, rdt: dict[str, Any], pids: tuple[int, ...] = ()) -> Any:
        return changed_group(record, rdt, self.host, lambda: pids, self.notes.append)

    def threads(self, group: str = "c1") -> list[int]:
        return [int(line) for line in (self.root / group / "tasks").read_text().split()]

    def schemata(self, group: str = "c1") -> list[str]:
        """What was written, behind what was there."""
        return (self.root / group / "schemata").read_text().splitlines()[2:]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    def make(path: str) -> None:
        os.mkdir(path)
        fill(Path(path))

    def append(path: Any, flags: int, *others: Any, **more: Any) -> int:
        return real_open(path, flags | os.O_APPEND, *others, **more)

    real_open = os.open
    monkeypatch.setattr(resctrl, "_make_directory", make)
    monkeypatch.setattr(resctrl, "_remove_directory", shutil.rmtree)
    monkeypatch.setattr(os, "open", append)
    return Tree(tmp_path)


def record(groups: ResctrlRecord | msgspec.UnsetType = msgspec.UNSET) -> ContainerRecord:
    return ContainerRecord("c1", "1.3.0", "/b", "/b/rootfs", 1, 1, datetime.datetime.now(datetime.UTC), 0, False, (), resctrl=groups,
                           front="1 sde 1 1 0")


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["/bin/sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_group_that_is_there(tree: Tree) -> None:
    fill_group(tree, "g")
    old = record(ResctrlRecord((f"{tree.root}/g",)))
    with tree.change(old, {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}, (1,)) as new:
        assert new is old
    assert tree.schemata("g") == ["L3:0=f", "MB:0=20"] and tree.threads("g") == [] and tree.notes == []


def fill_group(tree: Tree, name: str) -> None:
    (tree.root / name).mkdir()
    fill(tree.root / name)


def test_what_fails_later_takes_the_schemata_back(tree: Tree) -> None:
    fill_group(tree, "g")
    with pytest.raises(KeyError), tree.change(record(ResctrlRecord((f"{tree.root}/g",))), {"memBwSchema": "MB:0=20"}):
        raise KeyError
    assert tree.schemata("g") == ["MB:0=20", "MB:0=100"]


def test_a_container_without_a_group_gets_one(tree: Tree, sleeper: int) -> None:
    """With all threads that it has: here those of a program with three."""
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait) for _ in range(2)]
    for other in others:
        other.start()
    try:
        with tree.change(record(), {"l3CacheSchema": "L3:0=f"}, (sleeper, os.getpid())) as new:
            pass
        expected = {sleeper, *(int(name) for name in os.listdir("/proc/self/task"))}
    finally:
        stop.set()
        for other in others:
            other.join()
    path = f"{tree.root}/c1"
    assert new.resctrl == ResctrlRecord((path,), (path,)) and tree.notes == [(path,)]
    assert new.front is msgspec.UNSET  # it knows of no groups, and would leave this one
    assert len(expected) >= 4 and set(tree.threads()) == expected and tree.schemata() == ["L3:0=f"]


def test_a_new_group_is_taken_back(tree: Tree, sleeper: int) -> None:
    remove = resctrl.ResctrlGroups.undo

    def forget_and_remove(groups: resctrl.ResctrlGroups) -> None:
        assert tree.threads("") == [sleeper]  # moved back: the kernel takes them off the group's list then
        (tree.root / "c1" / "tasks").write_text("")
        remove(groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resctrl.ResctrlGroups, "undo", forget_and_remove)
        with pytest.raises(KeyError), tree.change(record(), {"l3CacheSchema": "L3:0=f"}, (sleeper,)):
            raise KeyError
    assert not (tree.root / "c1").exists() and tree.notes == [(f"{tree.root}/c1",), ()]


def test_processes_that_have_ended_are_no_failure(tree: Tree) -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    with tree.change(record(), {"memBwSchema": "MB:0=20"}, (ended.pid,)):
        pass
    assert tree.threads() == [] and tree.schemata() == ["MB:0=20"]


def test_nothing_asked_is_nothing_done(tree: Tree) -> None:
    old = record()
    with tree.change(old, {}) as new:
        assert new is old
    assert not (tree.root / "c1").exists()


@pytest.mark.parametrize(("rdt", "kind", "json_path"), [
    ({"memBwSchema": "L3:0=f"}, InvalidBundleError, "$.linux.intelRdt.memBwSchema"),
    ({"memBwSchema": 7}, InvalidBundleError, "$.linux.intelRdt.memBwSchema"),
    ({"closID": "g", "memBwSchema": "MB:0=20"}, UnsupportedFieldError, "$.linux.intelRdt.closID"),
    ({"enableMonitoring": True}, UnsupportedFieldError, "$.linux.intelRdt.enableMonitoring")])
def test_what_cannot_be_asked(tree: Tree, rdt: dict[str, Any], kind: type[InvalidBundleError], json_path: str) -> None:
    with pytest.raises(kind) as raised, tree.change(record(), rdt):
        pass
    assert raised.value.json_path == json_path and not (tree.root / "c1").exists()


def test_a_machine_without_resctrl(tree: Tree) -> None:
    tree.host = msgspec.structs.replace(tree.host, resctrl=None)
    with pytest.raises(UnsupportedFieldError, match="not mounted"), tree.change(record(), {"memBwSchema": "MB:0=20"}):
        pass


def test_a_group_that_is_gone(tree: Tree) -> None:
    with pytest.raises(SetupError) as raised, tree.change(record(ResctrlRecord((f"{tree.root}/g",))), {"memBwSchema": "MB:0=20"}):
        pass
    assert (raised.value.step, raised.value.errno_name) == ("read schemata", "ENOENT")
