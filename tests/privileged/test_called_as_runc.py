"""The program under the name of runc, which is what it is called by as a link or a copy in runc's place, and what runc says beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import COMMAND, TIMEOUT_S, Line
from filter_lab import rule, seccomp
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime.versions import NEWEST_SPEC


class Runc:
    """The program of that name, on the lab's root."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.log = lab.directory / "log"
        self._words = [str(path), "--root", str(lab.root), "--log", str(self.log), "--log-format", "json"]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        return subprocess.run([*self._words, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    def logged(self) -> list[str]:
        return [json.loads(line)["msg"] for line in self.log.read_text().splitlines()]


@pytest.fixture(params=[os.symlink, os.link, shutil.copy], ids=["symlink", "link", "copy"])
def placed(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A program in runc's place, as administrators put it there; for the hard link on the same file system."""
    with tempfile.TemporaryDirectory(dir=Path(COMMAND).parents[1]) as directory:
        path = Path(directory, "runc")
        request.param(COMMAND, path)
        yield path


@pytest.fixture
def runc(line: Line) -> Runc:
    path = line.lab.directory / "runc"
    path.symlink_to(COMMAND)
    return Runc(line.lab, path)


def test_it_works_in_another_place(placed: Path, line: Line) -> None:
    """The part in Python is where the program was installed."""
    runc = Runc(line.lab, placed)
    first, commit, spec = runc("--version").stdout.splitlines()
    assert first.startswith("runc version ") and first.endswith(" (pyruntime)") and commit.startswith("commit: ")
    assert spec == f"spec: {NEWEST_SPEC}"
    for _ in range(2):  # once with the plan that is kept
        ended = runc("run", "--bundle", line.lab.bundle(["/bin/echo", "hello"]), "p1")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "hello\n", "")
    assert runc("state", "p1").stderr.startswith("runc: container 'p1' does not exist")


def test_a_program_that_cannot_be_executed(runc: Runc, line: Line) -> None:
    """Standard error has runc's line and nothing else, the log all there is to say."""
    script = line.lab.rootfs / "bin" / "script"
    script.write_text("#!/absent foo\n")
    script.chmod(0o755)
    bundle = line.lab.bundle(["/bin/script"])
    ended = runc("run", "--bundle", bundle, "p1")
    theirs = subprocess.run(["runc", "--root", str(line.lab.directory / "runcs"), "run", "--bundle", bundle, "pyruntime-called-as-runc"],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert (ended.returncode != 0, ended.stderr) == (theirs.returncode != 0, theirs.stderr) == (True,
                                                                                              "exec /bin/script: no such file or directory\n")
    (logged,) = runc.logged()
    assert "the interpreter that its first line names" in logged
    script.write_text("no program\n")
    assert runc("run", "--bundle", bundle, "p1").stderr == "exec /bin/script: exec format error\n"
    script.rename(odd := script.with_name("a\x1b\nb"))
    assert runc("run", "--bundle", line.lab.bundle([f"/bin/{odd.name}"]), "p1").stderr == "exec /bin/a\\x1b\\nb: exec format error\n"


def test_how_far_it_has_come(runc: Runc, line: Line, volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,bind,ro", str(volume)], check=True)
    line.lab.directory.chmod(0o755)
    bundle = line.lab.bundle("true", mounts=with_mounts(bind(volume, "bind", "rw")),
                             linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    ended = runc("run", "--bundle", bundle, "p1")
    assert ended.returncode == 1 and ended.stderr.startswith(
        "runc run failed: unable to start container process: error during container init: error mounting: ")
    assert ended.stderr.endswith(": operation not permitted\n") and "locked in a user namespace" in ended.stderr
    # what is no mount's has not come that far
    ended = runc("run", "--bundle", line.lab.bundle("true", process={"cwd": "/bin/busybox/x"}), "p1")
    assert ended.stderr.startswith("runc run failed: ") and "error mounting" not in ended.stderr


def test_nobody_is_notified_of_write(runc: Runc, line: Line) -> None:
    """Under its own name it is no different from other system calls."""
    bundle = line.lab.bundle("true", **seccomp("ALLOW", rule(["mkdir", "write"], "NOTIFY"), listenerPath="/no/agent"))
    ended = runc("create", "--bundle", bundle, "p1")
    assert ended.returncode == 1 and ended.stderr.startswith("runc: ")
    assert "$.linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall" in ended.stderr
    assert runc("state", "p1").returncode == 1
    assert "look at listener '/no/agent'" in line.fail("create", "--bundle", bundle, "p1")


def test_a_priority_that_is_missing(runc: Runc, service: Line) -> None:
    file = service.lab.directory / "process.json"
    process = {"args": ["/bin/busybox", "ionice"], "cwd": "/", "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}
    file.write_text(json.dumps(process))
    assert runc("exec", "--process", str(file), "p1").stdout.startswith("idle")
    assert service.fail("exec", "--process", str(file), "p1", code=255) == (
        f"{file}: $.ioPriority.priority: is required, but missing or empty")
    file.write_text(json.dumps({**process, "ioPriority": {"class": "IOPRIO_CLASS_BE", "Priority": 7}}))
    for program in (runc, service):
        assert program("exec", "--process", str(file), "p1").stdout.startswith("best-effort: prio 7")
    for damaged in ("{", "[]", '{"ioPriority": 3}', "[" * 100000):
        file.write_text(damaged)
        ended = runc("exec", "--process", str(file), "p1")
        assert ended.returncode == 255 and ended.stderr.startswith(f"runc: {file}: ")
