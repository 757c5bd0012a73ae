"""Containers that stay in their caller's cgroups, since the runtime was told to make none."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from command_lab import Line
from lab import Lab

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import CheckpointError, SetupError, UnsupportedFieldError, UnsupportedHostError
from pyruntime.host import read_host
from pyruntime.testing.bundles import without_pid_namespace

DISABLED = ("--cgroup-manager", "disabled")


def made_cgroups() -> set[Path]:
    """Of all that are below pyruntime's."""
    return {path for hierarchy in read_host().hierarchies for path in Path(hierarchy.mount_point).glob("pyruntime/**/")}


@pytest.fixture
def runtime(lab: Lab) -> NativeRuntime:
    lab.runtime = NativeRuntime(str(lab.root), no_cgroups=True)
    return lab.runtime


def test_its_life(line: Line) -> None:
    before = made_cgroups()
    bundle = line.lab.bundle(["/bin/sh", "-c", "sleep 1000 & wait"], linux={"cgroupsPath": "/of/the/bundle"})
    line.detach(*DISABLED, "create", "--bundle", bundle, "p1")
    line.succeed(*DISABLED, "start", "p1")
    state = json.loads(line.succeed(*DISABLED, "state", "p1"))
    assert state["status"] == "running"
    assert Path(f"/proc/{state['pid']}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    # who asks later need not know how it was made
    assert line.succeed("exec", "p1", "echo", "there") == "there\n"
    assert len(json.loads(line.succeed("ps", "--format", "json", "p1"))) == 2
    for command in (("pause", "p1"), ("update", "--memory", "10485760", "p1"), ("checkpoint", "--image-path", f"{line.lab.directory}/i", "p1")):
        assert "the container has no cgroup" in line.fail(*command)
    line.succeed("kill", "p1", "KILL")
    while line.status() != "stopped":
        pass
    line.succeed("delete", "p1")
    assert made_cgroups() == before and not list(Path("/sys/fs/cgroup").glob("**/of/the/bundle"))


def test_processes_that_no_namespace_ends(line: Line) -> None:
    """They are found by their parents."""
    bundle = line.lab.bundle(["/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"], linux=without_pid_namespace())
    line.detach(*DISABLED, "run", "--detach", "--bundle", bundle, "p1")
    while len(pids := json.loads(line.succeed("ps", "--format", "json", "p1"))) < 3:
        pass
    line.succeed("delete", "--force", "p1")
    deadline = time.monotonic() + 10  # until who adopts them has reaped them
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left


def test_nothing_of_the_callers_cgroups_is_shown(lab: Lab, runtime: NativeRuntime) -> None:
    assert lab.run("ls -A /sys/fs/cgroup; touch /sys/fs/cgroup/x") == ""


@pytest.mark.parametrize(("resources", "said"), [
    ({"memory": {"limit": 1 << 20}}, "memory.limit"), ({"pids": {"limit": 10}}, "pids.limit"),
    ({"unified": {"memory.high": "1"}}, 'unified["memory.high"]')])
def test_limits_are_refused(lab: Lab, runtime: NativeRuntime, resources: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedFieldError, match="told to make no cgroups") as caught:
        lab.create("true", linux={"resources": resources})
    assert caught.value.json_path == f"$.linux.resources.{said}"


def test_devices_are_warned_of(line: Line) -> None:
    bundle = line.lab.bundle(["/bin/true"])
    said = "not applied: linux.resources.devices, since the container has no cgroup"
    # with a plan that is kept and without, and none of the one is the other's
    for options in (DISABLED, DISABLED, (), (), DISABLED):
        line.log.unlink(missing_ok=True)
        assert line.succeed(*options, "run", "--bundle", bundle, "p1") == ""
        assert (line.log.exists() and said in line.log.read_text()) is bool(options)


def test_what_goes_with_it(lab: Lab, runtime: NativeRuntime) -> None:
    with pytest.raises(UnsupportedHostError, match="only containers with cgroups"):
        runtime.restore_container("c2", str(lab.bundle(["/bin/true"])), str(lab.directory), StdioOptions())
    pid = lab.sleeper()
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    other = NativeRuntime(str(lab.root))
    with pytest.raises(SetupError, match="the container has no cgroup"):
        other.pause_container("p1")
    with pytest.raises(CheckpointError, match="the container has no cgroup"):
        other.checkpoint_container("p1", str(lab.directory / "image"))
    assert not os.path.exists(lab.directory / "image")


@pytest.mark.parametrize(("manager", "makes"), [("cgroupfs", True), ("disabled", False)])
def test_managers(line: Line, manager: str, makes: bool) -> None:
    line.detach(f"--cgroup-manager={manager}", "create", "--bundle", line.lab.bundle(["/bin/true"]), "p1")
    assert bool([path for path in made_cgroups() if path.name == "p1"]) is makes
    line.succeed("delete", "--force", "p1")


def test_another_manager(line: Line) -> None:
    ended = line("--cgroup-manager", "none", "list")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--cgroup-manager: invalid choice: 'none' (choose from 'cgroupfs', 'systemd', 'disabled')" in ended.stderr
