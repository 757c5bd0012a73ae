"""Options that are there for callers of runc, on real containers: what runc makes of them, and what follows here."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from command_lab import Line
from lab import cgroup_file
from users import COMMAND, User

ROOTLESS = ["auto", "true", "false", "1", "F", ""]


@pytest.mark.parametrize("value", ROOTLESS)
def test_rootless_changes_nothing_for_root(line: Line, value: str) -> None:
    """With runc `true` has errors of cgroups ignored, whoever asks. Here who asks is found out: root's containers have their cgroups and limits
    with each value, or are an error."""
    bundle = line.lab.bundle(["/bin/sleep", "1000"], linux={"resources": {"pids": {"limit": 33}}})
    line.detach("--rootless", value, "run", "--detach", "--bundle", bundle, "p1")
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == "33\n"
    line.succeed(f"--rootless={value}", "delete", "--force", "p1")
    impossible = line.lab.bundle("true", linux={"resources": {"cpu": {"cpus": "4000"}}})
    assert "$.linux.resources.cpu.cpus" in line.fail("--rootless", value, "run", "--bundle", impossible, "p1")


@pytest.mark.parametrize("value", ROOTLESS)
def test_rootless_changes_nothing_for_a_user(user: User, value: str) -> None:
    """With runc `false` fails without a cgroup that the user may fill. Here containers without limits are made with each value, and limits that
    cannot be are an error with each."""
    ended = user.run(COMMAND, "--rootless", value, "run", "--bundle", user.bundle("id -u"), "c1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")
    limited = user.bundle("true", linux={"resources": {"pids": {"limit": 33}}})
    ended = user.run(COMMAND, f"--rootless={value}", "run", "--bundle", limited, "c1")
    assert ended.returncode == 1 and "$.linux.resources" in ended.stderr


@pytest.mark.parametrize(("option", "is_detached"), [("--detach", True), ("--detach=true", True), ("-d=1", True), ("--detach=false", False),
                                                     ("--keep=false", False)])
def test_a_value_of_an_option_that_takes_none(line: Line, option: str, is_detached: bool) -> None:
    """By the front end too, which leaves it to Python."""
    for _ in range(2):
        line.detach("--systemd-cgroup=false", "--debug=0", "run", "--no-pivot=false", option, "--bundle", line.lab.bundle("true"), "p1")
        listed = json.loads(line.succeed("list", "--format", "json"))
        assert [(entry["id"], entry["owner"]) for entry in listed] == ([("p1", pwd.getpwuid(os.getuid()).pw_name)] if is_detached else [])
        line.succeed("delete", "--force=true", "p1")


def test_the_owner_is_that_of_the_containers_directory(service: Line) -> None:
    """As with runc, which knows it by that; by number where it has no name."""
    os.chown(service.lab.root / "p1", 54321, -1)
    head, row = service.succeed("list").splitlines()
    assert head.split()[-1] == "OWNER" and row.split()[-1] == "#54321"
    os.chown(service.lab.root / "p1", 0, -1)
    assert service.succeed("list").splitlines()[1].split()[-1] == "root"


def test_a_criu_that_is_not_there(service: Line, tmp_path: Path) -> None:
    """Newer versions of runc accept the option and do nothing with it."""
    assert json.loads(service.succeed("--criu", str(tmp_path / "none"), "state", "p1"))["status"] == "running"
