"""What is said of this host, and of a bundle on it: by the command, for root and for a user, and nothing is left of the asking."""

from __future__ import annotations

import json
import subprocess

import pytest
from lab import Lab, is_unified
from users import COMMAND, UID, User

from pyruntime.host import MINIMUM_KERNEL, read_host
from pyruntime.testing import HostSnapshot

pytestmark = pytest.mark.privileged


def test_for_root(lab: Lab) -> None:
    before = HostSnapshot.take(lab.directory)
    told = subprocess.run([COMMAND, "--root", str(lab.root), "doctor", "--format", "json"], capture_output=True, text=True, check=False)
    assert HostSnapshot.take(lab.directory).differences(before, []) == []
    found = json.loads(told.stdout)
    assert (told.returncode, told.stderr, found["canRun"]) == (0, "", True)
    by_name = {(finding["topic"], finding["name"]): finding for finding in found["findings"]}
    assert len(by_name) == len(found["findings"])
    assert by_name["kernel", "release"]["verdict"] == "ok" and read_host().kernel >= MINIMUM_KERNEL
    assert by_name["cgroups", "version"]["verdict"] == ("ok" if is_unified() else "limited")
    assert by_name["cgroups", "access"]["verdict"] == by_name["kernel", "system calls"]["verdict"] == "ok"
    assert by_name["programs", "criu"]["verdict"] in ("ok", "limited")
    holds = bool(read_host().held_capabilities >> 24 & 1)
    assert ("privileges", "CAP_SYS_RESOURCE") not in by_name if holds else by_name["privileges", "CAP_SYS_RESOURCE"]["verdict"] == "limited"
    # what is said to work does
    assert {"mount", "pid", "network"} <= set(by_name["namespaces", "tried"]["found"].removeprefix("new ones work: ").split(", "))
    assert lab.run("echo fine") == "fine\n"


def test_for_a_user(user: User) -> None:
    found = json.loads(user.succeed("doctor", "--format", "json"))
    by_name = {finding["name"]: finding for finding in found["findings"]}
    assert (found["canRun"], by_name["user namespaces"]["verdict"]) == (True, "ok")
    assert by_name["state directory"]["found"] == f"{user.root} can be made" and "capabilities" not in by_name
    # what is said to work does
    assert user.succeed("run", "--bundle", user.bundle("echo fine"), "c1") == "fine\n"


def test_a_plan_for_a_user(user: User) -> None:
    found = json.loads(user.succeed("plan", "--format", "json", user.bundle("echo fine")))
    assert found["caller"] == f"uid {UID}"
    assert found["other"]["caller"] == "root" and found["other"]["refused"] is None
    assert not user.root.exists()
