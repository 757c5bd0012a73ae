"""What is half made or damaged, by command: a container by force is removed with all that is its own, a bundle is an error that says so. By the
front end, which hands over, and by Python alone."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import COMMAND, TIMEOUT_S, Line

from pyruntime.cgroups import cgroups_of
from pyruntime.host import read_host

DAMAGE = {"missing": None, "empty": b"", "cut": b'{"id": "p1"', "other": b'{"id": "p1"}', "not text": b"\xff\0"}


class PythonLine(Line):
    """By Python alone."""

    def arguments(self, *arguments: str) -> list[str]:
        return [f"{COMMAND}-python", *super().arguments(*arguments)[1:]]


@pytest.fixture(params=["front end", "python"])
def either(request: pytest.FixtureRequest, line: Line) -> Iterator[Line]:
    yield line if request.param == "front end" else PythonLine(line.lab)
    line("delete", "--force", "p1")  # one that is damaged no list tells of


def damage(line: Line, how: str) -> Path:
    """The record of p1; `prepared` is one that was written and does not count yet."""
    record = line.lab.root / "p1" / "state.json"
    if how == "prepared":
        record.rename(record.with_name("state.json.new"))
    elif how == "directory":
        record.unlink()
        record.mkdir()
    elif (data := DAMAGE[how]) is None:
        record.unlink()
    else:
        record.write_bytes(data)
    return record


@pytest.fixture
def cgroups() -> Iterator[list[Path]]:
    yield [Path(cgroup.path) for cgroup in cgroups_of(read_host(), "/pyruntime/p1")]


@pytest.mark.parametrize(("how", "status"), [
    *((how, "running") for how in (*DAMAGE, "prepared", "directory")), ("missing", "created"), ("prepared", "created"), ("empty", "stopped")])
def test_deleting_by_force(either: Line, how: str, status: str, cgroups: list[Path]) -> None:
    """Ends what runs and removes its cgroups; other commands that need the record say what is wrong and change nothing."""
    pid_file = either.lab.directory / "pid"
    either.detach("create", "--bundle", either.lab.bundle(["/bin/sleep", "1000"]), "--pid-file", str(pid_file), "p1")
    pidfd = os.pidfd_open(int(pid_file.read_text()))
    if status != "created":
        either.succeed("start", "p1")
    if status == "stopped":
        either.succeed("kill", "p1", "KILL")
        assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    record = damage(either, how)
    assert any(path.exists() for path in cgroups)
    for words in (["state", "p1"], ["resume", "p1"], ["kill", "p1", "KILL"], ["pause", "p1"], ["delete", "p1"]):
        assert "'p1'" in either.fail(*words)
    assert "'p1'" in either.fail("exec", "p1", "true", code=255)
    assert bool(select.select([pidfd], [], [], 0)[0]) == (status == "stopped") and record.parent.is_dir()
    either.log.unlink()
    listed = either("list", "-q")
    assert (listed.returncode, listed.stdout) == (0, "")  # left out
    either.log.unlink(missing_ok=True)
    assert either.succeed("delete", "--force", "p1") == ""
    assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)
    assert not record.parent.exists() and not any(path.exists() for path in cgroups)
    assert "does not exist" in either.fail("delete", "p1") and either.succeed("delete", "--force", "p1") == ""


def test_a_directory_with_nothing_in_it(either: Line) -> None:
    """As a create leaves it that was killed at its beginning."""
    (either.lab.root / "p1").mkdir(parents=True)
    either.lab.root.chmod(0o700)
    assert "'p1'" in either.fail("delete", "p1") and "'p1'" in either.fail("state", "p1")
    assert either.succeed("delete", "--force", "p1") == "" and list(either.lab.root.iterdir()) == []


BUNDLES = {
    "no rootfs": "config.json: $.root.path: '{bundle}/own' does not exist", "rootfs is a file": "'{bundle}/own'", "no bundle": "does not exist",
    "no config": "config.json: cannot be read: ENOENT", "directory": "config.json: cannot be read: it is not a regular file",
    "FIFO": "config.json: cannot be read: it is not a regular file", "device": "config.json: cannot be read: it is not a regular file",
    "dangling link": "config.json: cannot be read: ENOENT", "loop": "config.json: cannot be read: ELOOP", "empty": "config.json: ",
    "cut": "config.json: ", "not text": "config.json: ",
}


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("how", BUNDLES)
def test_a_bundle_that_is_damaged_after_its_plan_was_kept(either: Line, how: str, command: str) -> None:
    bundle = Path(either.lab.bundle(["/bin/true"]))
    shutil.copytree(either.lab.rootfs, bundle / "own", symlinks=True)
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    config["root"]["path"] = "own"
    file.write_text(json.dumps(config))
    words = [command, "--bundle", str(bundle), "p1"]
    for _ in range(2):  # kept, and made of what is kept
        either.detach(*words)
        either.succeed("delete", "--force", "p1")
    whole = file.read_bytes()
    if how in ("no rootfs", "rootfs is a file"):
        shutil.rmtree(bundle / "own")
        if how == "rootfs is a file":
            (bundle / "own").touch()
    elif how == "no bundle":
        shutil.rmtree(bundle)
    else:
        file.unlink()
        {"no config": lambda: None, "directory": file.mkdir, "FIFO": lambda: os.mkfifo(file), "device": lambda: file.symlink_to("/dev/zero"),
         "dangling link": lambda: file.symlink_to("nowhere"), "loop": lambda: file.symlink_to("config.json"), "empty": file.touch,
         "cut": lambda: file.write_bytes(whole[:-9]), "not text": lambda: file.write_bytes(b"\xff" * 100)}[how]()
    assert BUNDLES[how].format(bundle=bundle) in either.fail(*words)
    assert either.succeed("list", "-q") == "" and [path.name for path in either.lab.root.iterdir() if path.name[0] != "."] == []


def test_a_config_that_is_a_link_is_followed(either: Line) -> None:
    """As with runc: it is the content that counts."""
    bundle = Path(either.lab.bundle("echo one"))
    (bundle / "config.json").rename(bundle / "one.json")
    (bundle / "two.json").write_text((bundle / "one.json").read_text().replace("echo one", "echo two"))
    for name in ("one", "two", "one", "two"):
        (bundle / "config.json").unlink(missing_ok=True)
        (bundle / "config.json").symlink_to(f"{name}.json")
        assert either.succeed("run", "--bundle", str(bundle), "p1") == f"{name}\n"


def test_a_process_that_comes_through_a_pipe(service: Line) -> None:
    """It can be read once; the front end leaves it to Python."""
    process = json.dumps({"args": ["/bin/echo", "it came"], "cwd": "/"})
    for program in (COMMAND, f"{COMMAND}-python"):
        script = f"exec {program} {' '.join(service.arguments('exec')[1:])} --process <(echo '{process}') p1"
        ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "it came\n", "")
