"""The parts that the contract suite is made of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyruntime import MockRuntime, StdioOptions
from pyruntime.errors import NotRunningError
from pyruntime.runtimes.mock_programs import MockProcess
from pyruntime.spec import load_spec
from pyruntime.testing import HostSnapshot, bundles, default_config, make_bundle
from pyruntime.testing.stress import add_notes


def test_default_config_is_valid() -> None:
    spec = load_spec(json.dumps(default_config()).encode())
    assert spec.process is not None and not spec.process.terminal
    default_config()["process"]["args"].append("changed")
    assert default_config()["process"]["args"] == ["sh"]


def test_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", ["true"], process={"cwd": "/tmp"}, hostname="h", linux={"maskedPaths": None})
    config = json.loads((bundle / "config.json").read_text())
    assert config["process"]["args"] == ["true"] and config["process"]["cwd"] == "/tmp"
    assert config["process"]["noNewPrivileges"] is True
    assert config["hostname"] == "h" and "maskedPaths" not in config["linux"]
    assert os.access(bundle / "rootfs" / "bin" / "sh", os.X_OK)


def test_no_busybox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dynamic = tmp_path / "busybox"
    dynamic.write_bytes(b"\x7fELF" + bytes(100) + b"/lib64/ld-linux-x86-64.so.2\0")
    monkeypatch.setattr(bundles, "BUSYBOX_PATHS", (str(tmp_path / "none"), str(dynamic)))
    with pytest.raises(FileNotFoundError, match="busybox-static"):
        bundles.find_busybox()


def test_snapshot_finds_what_is_left(tmp_path: Path) -> None:
    before = HostSnapshot.take(tmp_path)
    read, write = os.pipe()
    (tmp_path / "left").touch()
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
    try:
        differences = HostSnapshot.take(tmp_path).differences(before)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
    assert [line.split(":")[0] for line in differences if "cgroups" not in line and "mounts" not in line] == [
        "new in descriptors", "new in descriptors", "new in children", "new in files"]
    after = HostSnapshot.take(tmp_path)
    assert after.descriptors == before.descriptors and after.children == before.children
    assert after.files - before.files == {str(tmp_path / "left")}


def test_cgroups_of_containers() -> None:
    def with_cgroups(*paths: str) -> HostSnapshot:
        return HostSnapshot(*([frozenset()] * 3), frozenset(paths), frozenset())

    before = with_cgroups("/sys/fs/cgroup/other")
    after = with_cgroups("/sys/fs/cgroup/a/c1", "/sys/fs/cgroup/x-c2.scope/y", "/sys/fs/cgroup/c11", "/sys/fs/cgroup/12-c3")
    assert after.differences(before, ["c1", "c2", "c3"]) == [
        f"new in cgroups: /sys/fs/cgroup/{path}" for path in ("12-c3", "a/c1", "x-c2.scope/y")]
    assert len(after.differences(before)) == 5


def test_a_failure_tells_of_its_container(tmp_path: Path) -> None:
    def fail(process: MockProcess) -> int:
        os.write(process.stderr, b"why\n")
        return 3

    runtime = MockRuntime(programs={"fail": fail})
    runtime.create_container("c1", str(make_bundle(tmp_path / "bundle", ["fail"])), StdioOptions(create_err=True))
    runtime.start_container("c1")
    runtime.wait_on_container("c1")
    with pytest.raises(NotRunningError) as raised:
        runtime.exec_process("c1", {"args": ["fail"], "cwd": "/"}, StdioOptions())
    add_notes(raised.value, runtime, "c1")
    notes = dict(note.removeprefix("c1: ").split(": ", 1) for note in raised.value.__notes__)
    assert list(notes) == ["state", "init", "processes", "standard error", "exit"]
    assert "<Status.STOPPED: 'stopped'>" in notes["state"] and "exit_code=3" in notes["exit"]
    assert notes["standard error"] == "b'why\\n'" and notes["init"].startswith("FileNotFoundError"), "the mock has no processes"


def test_a_failure_of_what_is_not_there_tells_so() -> None:
    error = ValueError("it failed")
    add_notes(error, MockRuntime(), "c1")
    assert all("ContainerNotFoundError" in note for note in error.__notes__) and len(error.__notes__) == 5
