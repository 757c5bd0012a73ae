"""A command that is killed, at every stage of what it does: the other commands go on to work, and what is left can be deleted."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import COMMAND, TIMEOUT_S
from interruption import CGROUPS_PATH, cgroups, end_of
from lab import Lab

from pyruntime.runtimes.reaper import children_of_this_process

pytestmark = pytest.mark.privileged
SOURCE = Path(__file__).parents[1] / "interrupt/interrupt.c"
PROGRAMS = {"front": COMMAND, "python": f"{COMMAND}-python"}
# where a command begins to change something: a system call of the front end, a method of NativeRuntime
BEGINNINGS = {"create": ("mkdir", "create_container"), "run": ("mkdir", "create_container"), "start": ("connect", "start_container"),
              "exec": ("clone3", "exec_process"), "delete": ("flock", "delete_container")}
# pyruntime-python, which stops before it
STOPPING = """
import os, runpy, signal, sys
from pyruntime.runtimes.native import NativeRuntime
name = sys.argv.pop(1)
method = getattr(NativeRuntime, name)
def stopped(*arguments, **options):
    os.kill(os.getpid(), signal.SIGSTOP)
    return method(*arguments, **options)
setattr(NativeRuntime, name, stopped)
runpy.run_module("pyruntime", run_name="__main__")
"""
# every how many of a command's moments are tried
STEPS = {"front": {"create": 41, "run": 61, "start": 5, "exec": 37, "delete": 19},
         "python": {"create": 110, "run": 130, "start": 17, "exec": 83, "delete": 53}}


@pytest.fixture(scope="module")
def interrupter(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("interrupt") / "interrupt"
    subprocess.run(["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
    return str(program)


class Commands:
    """The program that is killed, and what is then done and seen."""

    def __init__(self, lab: Lab, name: str, interrupter: str) -> None:
        self.lab = lab
        self.program = PROGRAMS[name]
        self._interrupter = interrupter
        self._steps = STEPS[name]
        self._front_end = without_python(lab) if name == "front" else None
        self.bundle = lab.bundle(["/bin/sleep", "1000"], linux={"cgroupsPath": CGROUPS_PATH})
        self.before = set(children_of_this_process())

    def __call__(self, *arguments: str, output: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, "--root", str(self.lab.root), *arguments], stdin=subprocess.DEVNULL, stdout=output,
                              stderr=output, text=True, check=False, timeout=TIMEOUT_S)

    def _interrupt(self, moment: int, *arguments: str) -> bool:
        """Whether the command was killed, and had not ended before."""
        call, method = BEGINNINGS[arguments[0]]
        line = [self._interrupter, call, str(moment), self._front_end] if self._front_end else [
            self._interrupter, "stop", str(moment), sys.executable, "-c", STOPPING, method]
        line += ["--root", str(self.lab.root), *arguments]
        null = subprocess.DEVNULL
        ended = subprocess.run(line, stdin=null, stdout=null, stderr=null, check=False, timeout=TIMEOUT_S)
        assert ended.returncode in (0, 1), ended
        return ended.returncode == 0

    def interrupted(self, *arguments: str) -> Iterator[int]:
        """Kill the command at one moment after the other, as far as there are some."""
        for moment in itertools.count(0, self._steps[arguments[0]]):
            if not self._interrupt(moment, *arguments):
                assert moment, "it does not begin with what it is known by"
                return
            yield moment

    def make(self, *command: str) -> None:
        assert self(*command, "--bundle", self.bundle, "p1").returncode == 0

    def status(self) -> str:
        """That `state` tells; or `interrupted`, `missing`. `list` tells of the same."""
        shown = self("state", "p1", output=subprocess.PIPE)
        listed = [state.id for state in self.lab.runtime.list_container_states()]
        if shown.returncode == 0:
            assert listed == ["p1"]
            return str(json.loads(shown.stdout)["status"])
        assert (shown.returncode, listed) == (1, []) and shown.stderr.startswith("pyruntime: ") and shown.stderr.count("\n") == 1, shown
        return "missing" if "does not exist" in shown.stderr else "interrupted"

    def delete(self) -> list[str]:
        """By force; what is left of the container, which is removed."""
        assert self("delete", "--force", "p1").returncode == 0
        left = [f"cgroup {path}" for path in cgroups()]
        # processes that were on their way out need not be known to anybody
        left += end_of(set(children_of_this_process()) - self.before)
        left += [f"file {path}" for path in self.lab.root.iterdir() if path.name != ".plans"]
        for path in cgroups():
            path.rmdir()
        return left


def without_python(lab: Lab) -> str:
    """The front end, which can hand nothing over: what is killed is itself."""
    directory = lab.directory / "bin"
    directory.mkdir()
    (directory / "pyruntime-python").symlink_to("/bin/false")
    return shutil.copy(COMMAND, directory)


@pytest.fixture(params=PROGRAMS)
def commands(request: pytest.FixtureRequest, lab: Lab, interrupter: str) -> Commands:
    """With kept plans, without which the front end does not make containers."""
    commands = Commands(lab, request.param, interrupter)
    if request.param == "front":
        for command in (("create",), ("run", "--detach")):
            commands.make(*command)
            lab.runtime.delete_container("p1", force=True)
    return commands


@pytest.mark.usefixtures("orphanage")
def test_create(commands: Commands) -> None:
    reached: Counter[str] = Counter()
    for moment in commands.interrupted("create", "--bundle", commands.bundle, "p1"):
        reached[commands.status()] += 1
        assert commands.delete() == [], (moment, reached)
    assert commands.status() == "created" and commands.delete() == []
    assert {"missing", "interrupted"} <= set(reached) <= {"missing", "interrupted", "created"}


@pytest.mark.usefixtures("orphanage")
def test_run(commands: Commands) -> None:
    reached: Counter[str] = Counter()
    for moment in commands.interrupted("run", "--detach", "--bundle", commands.bundle, "p1"):
        reached[commands.status()] += 1
        assert commands.delete() == [], (moment, reached)
    assert commands.status() == "running" and commands.delete() == []
    assert {"missing", "interrupted"} <= set(reached) <= {"missing", "interrupted", "created", "running", "stopped"}


@pytest.mark.usefixtures("orphanage")
def test_start(commands: Commands) -> None:
    """It can be said once more, unless the init was about to answer: it ends then."""
    reached: Counter[str] = Counter()
    commands.make("create")
    for moment in commands.interrupted("start", "p1"):
        status = commands.status()
        reached[status] += 1
        if status == "created":
            assert commands("start", "p1").returncode == 0
            assert commands.status() == "running"
        assert commands.delete() == [], (moment, reached)
        commands.make("create")
    assert commands.status() == "running" and commands.delete() == []
    assert "created" in reached and set(reached) <= {"created", "running", "stopped"}


def test_exec(commands: Commands) -> None:
    """The container goes on, with a process more or less; nobody but the container's parent has the exit codes of those that lost theirs."""
    command = ("exec", "--detach", "p1", "/bin/sleep", "1000")
    commands.make("run", "--detach")
    assert commands(*command).returncode == 0  # and its plan is kept
    shown = [2]
    for moment in commands.interrupted(*command):
        assert commands.status() == "running"
        shown.append(len(json.loads(commands("ps", "--format", "json", "p1", output=subprocess.PIPE).stdout)))
        assert shown[-1] - shown[-2] in (0, 1), (moment, shown)
        assert commands("exec", "p1", "/bin/true").returncode == 0
    assert shown[-1] > 2
    assert commands.status() == "running" and commands.delete() == []


@pytest.mark.usefixtures("orphanage")
def test_delete(commands: Commands) -> None:
    reached: Counter[str] = Counter()
    commands.make("run", "--detach")
    for moment in commands.interrupted("delete", "--force", "p1"):
        reached[commands.status()] += 1
        assert commands.delete() == [], (moment, reached)
        commands.make("run", "--detach")
    assert commands.status() == "missing" and commands.delete() == []
    assert {"running"} < set(reached) <= {"running", "stopped", "interrupted", "missing"}
