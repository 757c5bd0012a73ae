"""A bundle as `runc spec` writes it, on the native engine."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import RUN, require_program

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.interface import Status
from pyruntime.testing import HostSnapshot, make_rootfs
from pyruntime.testing.case import read_all, read_some, within_time

pytestmark = pytest.mark.privileged
ID = f"spec-{RUN}"
PIPES = StdioOptions(create_in=True, create_out=True, create_err=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Nothing but a root file system and what runc wrote."""
    require_program("runc")
    directory = tmp_path / "bundle"
    make_rootfs(directory / "rootfs")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "rootfs"]
    return directory


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[NativeRuntime]:
    made = NativeRuntime(str(tmp_path / "root"))
    before = HostSnapshot.take()
    yield made
    for state in made.list_container_states():
        made.delete_container(state.id, force=True)
    assert HostSnapshot.take().differences(before, [ID]) == []


@pytest.fixture(autouse=True)
def _warm(tmp_path: Path, bundle: Path) -> None:
    """The init's memfd stays with the process."""
    made = NativeRuntime(str(tmp_path / "warm"))
    made.create_container(ID, str(bundle), StdioOptions())
    made.delete_container(ID, force=True)


def test_unchanged(bundle: Path, runtime: NativeRuntime) -> None:
    """A shell on a terminal."""
    written = json.loads((bundle / "config.json").read_text())
    assert written["process"]["terminal"] is True and written["process"]["args"] == ["sh"]
    pid = runtime.create_container(ID, str(bundle), PIPES)
    assert (runtime.get_container_state(ID).status, runtime.get_container_state(ID).oci_version) == (Status.CREATED, written["ociVersion"])
    pipes = runtime.get_stdio_pipes(ID, pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is None
    runtime.start_container(ID)
    pipes.in_.write(b"echo $((6 * 7)) $(hostname) $$; tty; exit 3\n")
    shown = b""
    while more := read_some(pipes.out, 4096):
        shown += more
    lines = shown.decode().split("\r\n")
    assert f"42 {written['hostname']} 1" in lines and lines[lines.index(f"42 {written['hostname']} 1") + 1] in ("/dev/pts/0", "/dev/console")
    assert within_time(lambda: runtime.wait_on_container(ID)).exit_code == 3
    assert runtime.get_container_state(ID).status == Status.STOPPED
    runtime.delete_container(ID)
    assert not runtime.container_exists(ID)


def test_without_a_terminal(bundle: Path, runtime: NativeRuntime) -> None:
    config = bundle / "config.json"
    config.write_text(config.read_text().replace('"terminal": true', '"terminal": false'))
    pid = runtime.create_container(ID, str(bundle), PIPES)
    pipes = runtime.get_stdio_pipes(ID, pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is not None
    runtime.start_container(ID)
    pipes.in_.write(b"echo $((6 * 7)) $(id -u); (echo x >/new) 2>/dev/null || echo read-only; echo err >&2; exit 4\n")
    pipes.in_.close()
    assert read_all(pipes.out).split() == [b"42", b"0", b"read-only"]
    assert read_all(pipes.err) == b"err\n"
    assert within_time(lambda: runtime.wait_on_container(ID)).exit_code == 4
    runtime.delete_container(ID)


def test_what_is_done_to_it(bundle: Path, runtime: NativeRuntime) -> None:
    """The shell that waits for input is paused, resumed, joined and killed."""
    runtime.create_container(ID, str(bundle), PIPES)
    runtime.start_container(ID)
    other = runtime.exec_process(ID, json.loads((bundle / "config.json").read_text())["process"] | {
        "args": ["/bin/sh", "-c", "exit 5"], "terminal": False}, StdioOptions())
    assert within_time(lambda: runtime.wait_on_process(ID, other)).exit_code == 5
    runtime.pause_container(ID)
    assert runtime.get_container_state(ID).status == Status.PAUSED
    runtime.resume_container(ID)
    runtime.kill_container(ID, signal.SIGKILL)
    assert within_time(lambda: runtime.wait_on_container(ID)).exit_code == 137
    runtime.delete_container(ID)
