"""`remount`: what is mounted already is changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab, bind, with_mounts
from test_mount_options import superblock, words

from pyruntime.errors import SetupError, UnsupportedFieldError

pytestmark = pytest.mark.conformance(5)
TMPFS = {"destination": "/tmp", "type": "tmpfs", "options": ["nosuid", "noatime", "size=64k", "mode=750"]}


def remount(to: str, *options: str) -> dict[str, object]:
    return {"destination": to, "options": ["remount", *options]}


def mountinfo(lab: Lab, *mounts: dict[str, object]) -> str:
    return lab.run("cat /proc/self/mountinfo", mounts=with_mounts(*mounts))


def of_host(path: Path) -> set[str]:
    return words(Path("/proc/self/mountinfo").read_text())[str(path)]


def test_own_file_system(lab: Lab) -> None:
    """What is not mentioned stays, of the mount and of the file system."""
    text = mountinfo(lab, TMPFS, remount("/tmp", "nodev", "size=128k", "lazytime"), remount("tmp/", "sync", "strictatime"))
    assert words(text)["/tmp"] == {"rw", "nosuid", "nodev"}
    assert {"size=128k", "mode=750", "lazytime", "sync"} <= superblock(text)["/tmp"]
    text = mountinfo(lab, {**TMPFS, "options": ["sync", "lazytime", "mand", "nodev"]},
                     remount("/tmp", "async", "nolazytime", "nomand", "dev", "iversion"))
    assert words(text)["/tmp"] == {"rw", "relatime"}
    assert not {"sync", "lazytime", "mand"} & superblock(text)["/tmp"]


@pytest.mark.parametrize(("options", "then", "expected"), [
    (["rw"], ["ro"], "ro"), (["ro"], ["rw"], "rw"), (["rw"], ["rro"], "ro"), (["ro"], ["rrw"], "rw"), (["ro"], ["nodev"], "ro"),
])
def test_writing(lab: Lab, volume: Path, options: list[str], then: list[str], expected: str) -> None:
    """Read-only it becomes at the end: what is mounted in it afterwards has a place."""
    for first in ({**TMPFS, "options": options}, bind(volume, "bind", *options)):
        text = mountinfo(lab, first, remount("/tmp", *then), {"destination": "/tmp/later", "type": "tmpfs"} if expected == "ro" and
                         options == ["rw"] else remount("/tmp"))
        assert expected in words(text)["/tmp"]


def test_bind_mount(lab: Lab, volume: Path) -> None:
    """Of a bind mount, its attributes alone: the file system is the host's."""
    before = of_host(volume)
    for kind in ((), ("bind",), ("rbind",)):
        text = mountinfo(lab, bind(volume, "rbind", "nosuid"), remount("/tmp", *kind, "ro", "noexec", "rnodev", "sync"))
        assert words(text)["/tmp"] == {"ro", "nosuid", "noexec", "nodev", "relatime"}
        assert words(text)["/tmp/sub"] == {"rw", "nodev", "relatime"}
        assert "sync" not in superblock(text)["/tmp"]
    assert of_host(volume) == before


@pytest.mark.parametrize("kind", [[], ["bind"]])
def test_options_of_the_hosts_file_system_are_refused(lab: Lab, volume: Path, kind: list[str]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with pytest.raises(UnsupportedFieldError) as raised:
        lab.create("true", mounts=with_mounts(bind(volume, "bind"), remount("/tmp", *kind, "size=1m")))
    assert raised.value.json_path == f"$.mounts[8].options[{len(kind) + 1}]"
    assert Path("/proc/self/mountinfo").read_text() == before


def test_mounts_that_are_in_what_was_bound_and_the_root(lab: Lab, volume: Path) -> None:
    """They have to be found by their path."""
    text = mountinfo(lab, bind(volume, "rbind"), remount("/tmp/sub", "ro", "nosuid"), remount("/", "nodev"), remount("/proc", "nosuid"))
    found = words(text)
    assert found["/tmp/sub"] == {"ro", "nosuid", "relatime"} and found["/tmp"] == {"rw", "relatime"}
    assert {"ro", "nodev"} <= found["/"] and "nosuid" in found["/proc"]
    assert of_host(volume / "sub") == {"rw", "relatime"}


def test_through_a_link_of_the_image(lab: Lab, volume: Path) -> None:
    (lab.rootfs / "link").symlink_to("../../tmp")
    assert words(mountinfo(lab, bind(volume, "bind"), remount("/link", "nosuid")))["/tmp"] == {"rw", "nosuid", "relatime"}


@pytest.mark.parametrize(("destination", "errno_name"), [("/etc", "EINVAL"), ("/none", "ENOENT")])
def test_where_nothing_is_mounted(lab: Lab, destination: str, errno_name: str) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", mounts=with_mounts(remount(destination, "nosuid")))
    assert (raised.value.step, raised.value.path, raised.value.errno_name, raised.value.json_path) == (
        "set attributes at", destination, errno_name, "$.mounts[7].options")
    assert errno_name != "EINVAL" or "nothing is mounted there" in str(raised.value)


def test_propagation(lab: Lab, volume: Path) -> None:
    shared = mountinfo(lab, bind(volume, "bind", "private"), remount("/tmp", "shared"))
    line = next(line for line in shared.splitlines() if line.split()[4] == "/tmp")
    assert "shared:" in line and "master:" not in line
