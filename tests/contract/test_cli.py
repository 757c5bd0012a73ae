"""CliRuntime beyond the contract: containers of another process, without a subreaper, preserved descriptors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import contract_path, require_program

from pyruntime import CliRuntime, StdioOptions
from pyruntime.errors import DamagedStateError, ExitStatusUnknownError, SetupError
from pyruntime.host import read_host
from pyruntime.interface import Status
from pyruntime.runtimes import cli
from pyruntime.runtimes.cli_command import run_command
from pyruntime.runtimes.reaper import WatchedProcess, children_of_this_process
from pyruntime.testing import HostSnapshot, make_bundle
from pyruntime.testing.case import in_thread, read_all

pytestmark = pytest.mark.privileged

# Runs container c1 as its argument, an object in JSON, says.
OTHER_PROCESS = """
import json, os, sys
from pyruntime import CliRuntime, StdioOptions
asked = json.loads(sys.argv[1])
if asked["preserve"]:
    read, write = os.pipe()
    os.write(write, b"preserved")
    os.close(write)
    os.dup2(read, 3)
runtime = CliRuntime(asked["command"], asked["root"], subreaper=asked["subreaper"])
pid = runtime.create_container("c1", asked["bundle"], StdioOptions(create_out=True, preserve_fds=asked["preserve"]))
runtime.start_container("c1")
if asked["wait"]:
    output = runtime.get_stdio_pipes("c1", pid).out.read()
    print(json.dumps([output.decode(), runtime.wait_on_container("c1").exit_code]))
    runtime.delete_container("c1")
else:
    print(pid)
"""


@pytest.fixture(params=["runc", "crun"])
def command(request: pytest.FixtureRequest, hugetlb_hierarchy: None) -> Iterator[str]:
    """Debian's; nothing may be left on the host."""
    require_program(request.param)
    CliRuntime(request.param)
    before, children = HostSnapshot.take(), set(children_of_this_process())
    yield request.param
    # where an earlier test has made this process a subreaper, it inherits what the other process left
    for pid in set(children_of_this_process()) - children:
        WatchedProcess(pid).wait()
    after = HostSnapshot.take()
    assert (after.mounts, after.children) == (before.mounts, before.children)


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    """Sleeps."""
    return str(make_bundle(tmp_path / "bundle", ["/bin/sleep", "1000"],
                           linux={"cgroupsPath": contract_path("c1")}))


def run_other(command: str, root: Path, bundle: str, **asked: Any) -> str:
    """Let another process, which has ended then, do it; what it prints."""
    asked = {"command": command, "root": str(root), "bundle": bundle, "preserve": 0, "subreaper": True, "wait": False,
             **asked}
    return subprocess.run([sys.executable, "-c", OTHER_PROCESS, json.dumps(asked)], check=True, stdout=subprocess.PIPE,
                          text=True, timeout=60).stdout


def test_container_of_another_process(command: str, bundle: str, tmp_path: Path) -> None:
    pid = int(run_other(command, tmp_path / "root", bundle))
    runtime = CliRuntime(command, str(tmp_path / "root"))
    try:
        assert [(state.id, state.pid, state.status) for state in runtime.list_container_states()] == [
            ("c1", pid, Status.RUNNING)]
        assert runtime.get_init_pid("c1") == pid
        process = runtime.exec_process("c1", {"args": ["/bin/sh", "-c", "exit 3"], "cwd": "/"}, StdioOptions())
        assert runtime.wait_on_process("c1", process).exit_code == 3
        runtime.kill_container("c1", signal.SIGKILL)
        if read_host().kernel >= (6, 15):
            assert runtime.wait_on_container("c1").exit_code == 137
        else:
            with pytest.raises(ExitStatusUnknownError):
                runtime.wait_on_container("c1")
        # one that comes even later
        late = CliRuntime(command, str(tmp_path / "root"))
        assert late.get_container_state("c1").status == Status.STOPPED
        assert late.get_init_pid("c1") == pid
        try:  # known as long as its parent, whoever that is, has not collected it
            assert late.wait_on_container("c1").exit_code == 137
        except ExitStatusUnknownError as error:
            assert error.pid == pid
        late.delete_container("c1")
        assert not runtime.container_exists("c1")
    finally:
        if runtime.container_exists("c1"):
            runtime.delete_container("c1", force=True)
    assert [name for name in os.listdir(tmp_path / "root") if name != ".plans"] == []


def test_without_a_subreaper(command: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ["/bin/sh", "-c", "echo out; sleep 0.1; exit 6"],
                         linux={"cgroupsPath": contract_path("c1")})
    if read_host().kernel < (6, 15):  # the status cannot be known
        with pytest.raises(subprocess.CalledProcessError):
            run_other(command, tmp_path / "root", str(bundle), subreaper=False, wait=True)
        CliRuntime(command, str(tmp_path / "root")).delete_container("c1", force=True)
        return
    output = run_other(command, tmp_path / "root", str(bundle), subreaper=False, wait=True)
    assert json.loads(output) == ["out\n", 6]


def test_preserved_descriptors(command: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ["/bin/sh", "-c", "cat <&3"],
                         linux={"cgroupsPath": contract_path("c1")})
    output = run_other(command, tmp_path / "root", str(bundle), preserve=1, wait=True)
    assert json.loads(output) == ["preserved", 0]


def test_damaged_state(command: str, bundle: str, tmp_path: Path) -> None:
    runtime = CliRuntime(command, str(tmp_path / "root"))
    runtime.create_container("c1", bundle, StdioOptions())
    path = tmp_path / "root" / "c1" / ("status" if command == "crun" else "state.json")
    whole = path.read_bytes()
    path.write_bytes(b"{")
    try:
        with pytest.raises(DamagedStateError) as raised:
            runtime.get_container_state("c1")
        assert raised.value.id == "c1"
        assert runtime.container_exists("c1")
    finally:
        path.write_bytes(whole)
        runtime.delete_container("c1", force=True)


def test_program_that_is_not_there(bundle: str, tmp_path: Path) -> None:
    runtime = CliRuntime("/no/such/runtime", str(tmp_path / "root"))
    with pytest.raises(SetupError) as raised:
        runtime.create_container("c1", bundle, StdioOptions())
    assert (raised.value.step, raised.value.path) == ("execute runtime", "/no/such/runtime")


def test_container_made_while_another_thread_was_told_that_there_is_none(
        command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of it, and its streams, stay: the answer is older than the container."""
    told, made = threading.Event(), threading.Event()

    def run_and_be_late(arguments: list[str], *rest: Any, **more: Any) -> bytes:
        try:
            return run_command(arguments, *rest, **more)
        finally:
            if threading.current_thread() is not threading.main_thread():
                told.set()
                assert made.wait(30)

    monkeypatch.setattr(cli, "run_command", run_and_be_late)
    bundle = make_bundle(tmp_path / "bundle", ["/bin/cat"], linux={"cgroupsPath": contract_path("c1")})
    runtime = CliRuntime(command, str(tmp_path / "root"))
    exists = in_thread(lambda: runtime.container_exists("c1"))
    assert told.wait(30)
    try:
        pid = runtime.create_container("c1", str(bundle), StdioOptions(create_in=True, create_out=True))
        made.set()
        assert exists() is False
        runtime.start_container("c1")
        pipes = runtime.get_stdio_pipes("c1", pid)
        assert pipes.in_ is not None and pipes.out is not None
        pipes.in_.write(b"in")
        pipes.in_.close()
        assert read_all(pipes.out) == b"in"
        assert runtime.wait_on_container("c1").exit_code == 0
    finally:
        made.set()
        runtime.delete_container("c1", force=True)
