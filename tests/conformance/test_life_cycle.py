"""The operations on the real engine: rows 57 to 60."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from lab import Lab, namespaces, with_mounts

from pyruntime import StdioOptions
from pyruntime.errors import ContainerExistsError, NotCreatedError, NotRunningError, NotStoppedError, SetupError
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged


@pytest.mark.conformance(57)
def test_create_does_everything_but_the_program(lab: Lab) -> None:
    """The namespaces and mounts are made, and nothing of the program has been executed."""
    pid = lab.create("echo ran", hostname="made", process={"user": {"uid": 5, "gid": 6}, "oomScoreAdj": 7})
    assert lab.runtime.get_container_state("p1").status == "created"
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t" + "\t".join(["5"] * 4) in status and Path(f"/proc/{pid}/oom_score_adj").read_text() == "7\n"
    assert " /proc " in Path(f"/proc/{pid}/mountinfo").read_text() and "/bin/sh" not in Path(f"/proc/{pid}/cmdline").read_text()
    assert os.stat(f"/proc/{pid}/ns/uts").st_ino != os.stat("/proc/self/ns/uts").st_ino
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None
    os.set_blocking(out.fileno(), False)
    assert out.read() is None
    os.set_blocking(out.fileno(), True)
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "ran\n"
    lab.runtime.wait_on_container("p1")


@pytest.mark.conformance(57)
def test_a_configuration_that_is_changed_after_create_changes_nothing(lab: Lab) -> None:
    """Neither the program nor hooks, nor what a further process gets."""
    told = lab.directory / "told"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo first >>{told}"], "env": ["PATH=/bin"]}
    bundle = Path(lab.bundle("echo first; exec sleep 1000", hooks={"poststart": [hook], "poststop": [hook]}, annotations={"a": "1"},
                             linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}))
    pid = lab.runtime.create_container("p1", str(bundle), StdioOptions(create_out=True))
    config = json.loads((bundle / "config.json").read_text())
    hook["args"][2] = f"echo second >>{told}"
    config |= {"hooks": {"poststart": [hook], "poststop": [hook]}, "annotations": {"a": "2"}}
    config["process"] |= {"args": ["/bin/sh", "-c", "echo second"], "cwd": "/tmp"}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO"}
    (bundle / "config.json").write_text(json.dumps(config))
    lab.runtime.start_container("p1")
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None and out.read(6) == b"first\n"
    assert lab.runtime.get_container_state("p1").annotations == {"a": "1"}
    assert lab.exec("pwd; grep Seccomp: /proc/self/status").split() == ["/", "Seccomp:", "2"]
    lab.runtime.delete_container("p1", force=True)
    assert told.read_text().split() == ["first", "first"]


def contents(directory: Path) -> dict[str, tuple[int, str]]:
    """Modes and digests of all that is in it, links as they are."""
    found = {}
    for path in sorted(directory.rglob("*")):
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (path.lstat().st_mode, hashlib.sha256(data).hexdigest())
    return found


@pytest.mark.conformance(60)
def test_delete_takes_nothing_that_create_did_not_make(lab: Lab) -> None:
    """Neither the bundle, nor what is mounted, nor namespaces that were joined."""
    volume = lab.directory / "volume"
    volume.mkdir()
    (volume / "kept").write_text("kept\n")
    other = lab.sleeper("p2")
    bind = {"destination": "/tmp", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]}
    bundle = Path(lab.bundle(["/bin/sleep", "1000"], mounts=with_mounts(bind), hostname=None, root={"readonly": True}, linux={
        "namespaces": namespaces("mount", "pid", network=f"/proc/{other}/ns/net", uts=f"/proc/{other}/ns/uts"),
        "maskedPaths": [], "readonlyPaths": []}))
    before, root = contents(bundle), contents(lab.rootfs)
    lab.runtime.create_container("p1", str(bundle), StdioOptions())
    lab.runtime.start_container("p1")
    lab.exec("echo made >/tmp/made")
    lab.runtime.kill_container("p1", signal.SIGKILL)
    lab.runtime.wait_on_container("p1")
    lab.runtime.delete_container("p1")
    assert (contents(bundle), contents(lab.rootfs)) == (before, root)
    assert {path.name: path.read_text() for path in volume.iterdir()} == {"kept": "kept\n", "made": "made\n"}
    assert lab.runtime.get_container_state("p2").status == "running"
    assert lab.exec("hostname", "p2").strip() == "contract"


@pytest.mark.conformance(57)
def test_a_create_that_fails_late_leaves_nothing(lab: Lab) -> None:
    before = HostSnapshot.take(lab.root)
    with pytest.raises(SetupError) as raised:
        lab.create("true", process={"cwd": "/etc/passwd"}, mounts=None)
    assert raised.value.json_path == "$.process.cwd"
    assert not lab.runtime.container_exists("p1")
    assert [line for line in HostSnapshot.take(lab.root).differences(before) if " cgroups: " not in line or "/pyruntime/p1" in line] == []


@pytest.mark.conformance(57, 58, 59, 60)
def test_what_is_refused_changes_nothing(lab: Lab) -> None:
    """A container goes through its life as if nobody had asked for what cannot be."""
    bundle = lab.bundle(["/bin/sleep", "1000"])
    pid = lab.runtime.create_container("p1", bundle, StdioOptions())

    def refused() -> None:
        state = lab.runtime.get_container_state("p1")
        with pytest.raises(ContainerExistsError):
            lab.runtime.create_container("p1", bundle, StdioOptions())
        if state.status != "created":
            with pytest.raises(NotCreatedError):
                lab.runtime.start_container("p1")
        if state.status == "stopped":
            with pytest.raises(NotRunningError):
                lab.runtime.kill_container("p1", signal.SIGTERM)
        else:
            with pytest.raises(NotStoppedError):
                lab.runtime.delete_container("p1")
        assert lab.runtime.get_container_state("p1") == state

    refused()
    lab.runtime.start_container("p1")
    refused()
    assert lab.runtime.get_container_state("p1").pid == pid
    lab.runtime.kill_container("p1", signal.SIGTERM)
    lab.runtime.kill_container("p1", signal.SIGKILL)
    assert lab.runtime.wait_on_container("p1").signal == signal.SIGKILL
    refused()
    lab.runtime.delete_container("p1")
    assert not lab.runtime.container_exists("p1")
