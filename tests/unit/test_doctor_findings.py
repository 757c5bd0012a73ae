"""Findings that few hosts give a reason for, each with what follows and its remedy."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
from pathlib import Path

import pytest
from test_doctor import USER, V1, V2, WORKING, Lab, lab, on, probing, user, without  # noqa: F401  # fixtures too

from pyruntime.doctor import Finding, Sight, callers, can_run
from pyruntime.host import Unprivileged

UNIFY = "boot with systemd.unified_cgroup_hierarchy=1, or without systemd with cgroup_no_v1=all: "


def parts(finding: Finding) -> tuple[str, str, str | None, str | None]:
    return str(finding.verdict), finding.found, finding.follows, finding.remedy


def test_a_host_without_ps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert parts(lab.finding("ps")) == ("limited", "is not installed", "pyruntime ps makes no table",
                                        "apt install procps, or pyruntime ps --format json")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert parts(lab.finding("ps")) == ("ok", "makes the table of pyruntime ps", None, None)


@pytest.mark.parametrize("absent", ["newuidmap", "newgidmap"])
def test_a_host_without_the_programs_that_map_ids(user: Lab, absent: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """One of them, the other being there."""
    monkeypatch.setattr(callers, "program_path", lambda name: None if name == absent else f"/usr/bin/{name}")
    other = {"newuidmap": "newgidmap", "newgidmap": "newuidmap"}[absent]
    assert parts(user.finding(absent)) == ("limited", "is not installed", "containers can have the own ids alone", "apt install uidmap")
    assert parts(user.finding(other)) == ("ok", f"/usr/bin/{other}", None, None) and can_run(user.findings())


def test_a_user_without_a_name(user: Lab, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Nothing is said then of files in which names stand."""
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    on(caller=Unprivileged(54321, 54321))(user)
    findings = user.findings()
    assert [parts(finding) for finding in findings if finding.topic == "ids"] == [
        ("limited", "uid 54321 has none", "only the own ids can be mapped", "an entry in /etc/passwd")]
    assert can_run(findings)


def test_a_range_may_be_told_by_number(user: Lab) -> None:  # noqa: F811
    assert USER.caller is not None
    user.write("/etc/subuid", f"{os.getuid()}:5000:10\n")
    assert user.finding("/etc/subuid").found == f"{os.getuid()}:5000:10"


@pytest.mark.parametrize(("name", "is_required"), [
    ("CAP_SYS_RESOURCE", False), ("CAP_MKNOD", True), ("CAP_NET_ADMIN", True), ("CAP_SETUID", False), ("CAP_SETGID", False),
    ("CAP_SETPCAP", True), ("CAP_CHOWN", False), ("CAP_DAC_OVERRIDE", False), ("CAP_KILL", False), ("CAP_SYS_PTRACE", False),
    ("CAP_SYS_NICE", False)])
def test_each_capability_that_is_not_held(lab: Lab, name: str, is_required: bool) -> None:  # noqa: F811
    """It alone is told, and nothing else changes: the bounding set has it."""
    before = {finding.name for finding in lab.findings()}
    on(held_capabilities=without(name))(lab)
    findings = lab.findings()
    assert {finding.name for finding in findings} == before - {"capabilities"} | {name}
    found = lab.finding(name)
    assert (found.verdict, found.found, found.is_required) == ("missing" if is_required else "limited", "is not held", is_required)
    assert found.follows and found.remedy == f"docker run --privileged, or --cap-add={name.removeprefix('CAP_')}"
    assert can_run(findings) is not is_required


def test_the_capabilities_that_are_asked_about() -> None:
    """So that a further one is tried here too."""
    tried = test_each_capability_that_is_not_held.pytestmark[0].args[1]
    assert {name: is_required for name, is_required in tried} == {name: is_required for name, (is_required, _) in callers._NEEDED.items()}


def test_id_mapped_mounts_that_work_nowhere(lab: Lab) -> None:  # noqa: F811
    """No other place is a remedy then."""
    tried = WORKING | {"map ids of /": errno.EINVAL, "map ids of /tmp": errno.EPERM}
    probing(tried=tried)(lab)
    assert parts(lab.finding("id-mapped mounts")) == (
        "limited", "/: EINVAL: Invalid argument; /tmp: EPERM: Operation not permitted",
        "mounts of these file systems with idmap or uidMappings fail", None)
    probing(tried=tried | {"map ids of /tmp": 0})(lab)
    assert lab.finding("id-mapped mounts").remedy == "have volumes on ext4, xfs or btrfs, or on tmpfs from Linux 6.3 on"


@pytest.mark.parametrize(("mounts", "follows", "remedy"), [
    (V1 + V2, "linux.resources.unified is refused for controllers of v1, and who is not root gets no limits", UNIFY),
    (V1, "linux.resources.unified is refused, and who is not root gets no cgroups", UNIFY),
    ("", "containers have no limits, cannot be paused, and are known by their processes alone", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")])
def test_remedies_for_versions_of_cgroups(lab: Lab, mounts: str, follows: str, remedy: str) -> None:  # noqa: F811
    lab.write("/proc/self/mountinfo", mounts)
    for directory in ("v1/memory", "v1/cpu"):
        (lab.directory / directory).mkdir(parents=True)
    (found,) = [finding for finding in lab.findings() if (finding.topic, finding.name) == ("cgroups", "version")]
    assert found.follows == follows and str(found.remedy).startswith(remedy)
    kills = lab.finding("memory.oom.group")
    assert (kills.found, kills.follows) == ("of cgroup v2 alone", "when memory runs out the kernel kills single processes of a container")
    assert str(kills.remedy).startswith(UNIFY) and "update-grub" in str(kills.remedy)


def test_nothing_is_said_of_groups_where_no_cgroup_is_below(lab: Lab) -> None:  # noqa: F811
    shutil.rmtree(lab.directory / "cg" / "a")
    assert [finding for finding in lab.findings() if finding.name == "memory.oom.group"] == []


def test_remedy_for_a_state_directory_that_cannot_be_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(Sight, "is_writable", lambda self, name: name != "/run")
    assert lab.root == "/run/pyruntime"
    found = lab.finding("state directory")
    assert parts(found) == ("missing", "/run cannot be written to", "no container can be made",
                            "another directory with --root; /run/pyruntime is root's")
    assert found.is_required and not can_run(lab.findings())
    lab.root = "/elsewhere/state"
    assert parts(lab.finding("state directory")) == ("ok", "/elsewhere/state can be made", None, None)
    Path(lab.directory, "elsewhere/state").mkdir(parents=True)
    assert lab.finding("state directory").found == "/elsewhere/state"
