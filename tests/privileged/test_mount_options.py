"""Mount options one by one, as the kernel tells what has come of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, bind, with_mounts

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import make_rootfs

# option: what the mount had before, and has with it, of the words of mountinfo
DEFAULTS = {"rw", "relatime"}
ATTRIBUTES: dict[str, tuple[str, set[str]]] = {
    "ro": ("rw", {"ro", "relatime"}),
    "rw": ("ro", DEFAULTS),
    "nosuid": ("suid", {*DEFAULTS, "nosuid"}),
    "suid": ("nosuid", DEFAULTS),
    "nodev": ("dev", {*DEFAULTS, "nodev"}),
    "dev": ("nodev", DEFAULTS),
    "noexec": ("exec", {*DEFAULTS, "noexec"}),
    "exec": ("noexec", DEFAULTS),
    "nodiratime": ("diratime", {*DEFAULTS, "nodiratime"}),
    "diratime": ("nodiratime", DEFAULTS),
    "nosymfollow": ("symfollow", {*DEFAULTS, "nosymfollow"}),
    "symfollow": ("nosymfollow", DEFAULTS),
    "relatime": ("noatime", DEFAULTS),
    "norelatime": ("relatime", {"rw"}),
    "noatime": ("relatime", {"rw", "noatime"}),
    "atime": ("noatime", DEFAULTS),
    "strictatime": ("relatime", {"rw"}),
    "nostrictatime": ("strictatime", DEFAULTS),
}
# what says only how access times are not kept has those of a source as they are, as with mount(8)
WITHOUT_MODE = {"diratime", "norelatime", "atime", "nostrictatime"}


def words(mountinfo: str) -> dict[str, set[str]]:
    """The options of a mount by its mount point; of several there the last."""
    return {line.split()[4]: set(line.split()[5].split(",")) for line in mountinfo.splitlines()}


def superblock(mountinfo: str) -> dict[str, set[str]]:
    """The options of its file system."""
    return {line.split()[4]: set(line.split()[-1].split(",")) for line in mountinfo.splitlines()}


def seen(lab: Lab, *mounts: dict[str, Any], **changes: Any) -> str:
    return lab.run("cat /proc/self/mountinfo", mounts=with_mounts(*mounts), **changes)


def prepare(volume: Path, before: str) -> set[str]:
    """The options of a mount and of the one in it, before."""
    for path in (volume, volume / "sub"):
        subprocess.run(["mount", "-o", f"remount,bind,{before}", str(path)], check=True)
    found = words(Path("/proc/self/mountinfo").read_text())
    assert found[str(volume)] == found[str(volume / "sub")]
    return found[str(volume)]


@pytest.mark.conformance(5, 6)
@pytest.mark.parametrize("option", ATTRIBUTES)
@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_attribute_of_a_bind_mount(lab: Lab, volume: Path, kind: str, option: str) -> None:
    before, after = ATTRIBUTES[option]
    had = prepare(volume, before)
    assert had != after
    found = words(seen(lab, bind(volume, kind, option)))
    assert found["/tmp"] == (had if option in WITHOUT_MODE else after)
    assert found.get("/tmp/sub") == (had if kind == "rbind" else None), "what is mounted below stays as it is"
    assert words(Path("/proc/self/mountinfo").read_text())[str(volume)] == had


@pytest.mark.conformance(7)
@pytest.mark.parametrize("option", ATTRIBUTES)
def test_recursive_attribute(lab: Lab, volume: Path, option: str) -> None:
    before, after = ATTRIBUTES[option]
    had = prepare(volume, before)
    assert had != after
    found = words(seen(lab, bind(volume, "rbind", f"r{option}")))
    assert found["/tmp"] == found["/tmp/sub"] == after
    of_host = words(Path("/proc/self/mountinfo").read_text())
    assert of_host[str(volume)] == of_host[str(volume / "sub")] == had


@pytest.mark.conformance(7)
def test_recursive_attributes_besides_others(lab: Lab, volume: Path) -> None:
    found = words(seen(lab, bind(volume, "rbind", "ro", "noatime", "rnosuid", "rnodev", "rstrictatime", "nodev", "rdev")))
    assert found["/tmp"] == {"ro", "nosuid"} and found["/tmp/sub"] == {"rw", "nosuid"}


@pytest.mark.conformance(5, 6, 7)
@pytest.mark.parametrize("recursive", ["", "r"])
@pytest.mark.parametrize("option", ATTRIBUTES)
def test_attribute_of_a_new_file_system(lab: Lab, option: str, recursive: str) -> None:
    before, after = ATTRIBUTES[option]
    mount = {"destination": "/tmp", "type": "tmpfs", "options": [before, f"{recursive}{option}"]}
    assert words(seen(lab, mount))["/tmp"] == after


def propagation(mountinfo: str) -> dict[str, set[str]]:
    """The kinds of propagation of a mount, without the numbers of peer groups."""
    lines = [line.split() for line in mountinfo.splitlines()]
    return {line[4]: {field.partition(":")[0] for field in line[6:line.index("-")]} - {"propagate_from"} for line in lines}


PROPAGATION: dict[str, set[str]] = {"private": set(), "slave": {"master"}, "shared": {"master", "shared"}, "unbindable": {"unbindable"}}


@pytest.mark.conformance(5)
@pytest.mark.parametrize("recursive", ["", "r"])
@pytest.mark.parametrize("option", PROPAGATION)
def test_propagation(lab: Lab, volume: Path, option: str, recursive: str) -> None:
    """What is shared with the host is a slave of it from the start; how events spread is in test_propagation.py."""
    subprocess.run(["mount", "--make-shared", str(volume / "sub")], check=True)
    before = Path("/proc/self/mountinfo").read_text()
    found = propagation(seen(lab, bind(volume, "rbind", f"{recursive}{option}")))
    assert found["/tmp"] == PROPAGATION[option]
    assert found["/tmp/sub"] == (PROPAGATION[option] if recursive else {"master"})
    new = propagation(seen(lab, {"destination": "/tmp", "type": "tmpfs", "options": [f"{recursive}{option}"]}))
    assert new["/tmp"] == PROPAGATION[option] - {"master"}
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.conformance(5)
@pytest.mark.parametrize(("options", "has", "has_not"), [
    (("sync",), {"sync"}, {"dirsync", "lazytime"}), (("dirsync",), {"dirsync"}, {"sync"}), (("lazytime",), {"lazytime"}, {"sync"}),
    (("mand",), {"mand"}, set()), (("sync", "async"), set(), {"sync"}), (("lazytime", "nolazytime"), set(), {"lazytime"}),
    (("mand", "nomand"), set(), {"mand"}), (("async", "sync", "dirsync", "lazytime"), {"sync", "dirsync", "lazytime"}, {"mand"}),
    (("defaults", "silent", "loud", "noiversion", "iversion"), set(), {"sync", "mand", "lazytime"}),
])
def test_option_of_the_file_system(lab: Lab, options: tuple[str, ...], has: set[str], has_not: set[str]) -> None:
    found = superblock(seen(lab, {"destination": "/tmp", "type": "tmpfs", "options": list(options)}))["/tmp"]
    assert found >= has and not found & has_not
    # of what is bound they have no effect: it has its file system
    assert lab.run("echo fine", mounts=with_mounts(bind(lab.directory, "bind", *options))) == "fine\n"


@pytest.mark.conformance(5)
def test_versions_of_inodes_leave_the_rest_as_it_is(lab: Lab) -> None:
    """That the kernel is asked for them is in test_errors.py: it does not tell whether a file system has them."""
    options = ["iversion", "nosuid", "noexec", "noatime", "nodiratime", "nosymfollow", "lazytime", "sync", "size=64k", "ro"]
    text = seen(lab, {"destination": "/tmp", "type": "tmpfs", "options": options})
    assert words(text)["/tmp"] == {"ro", "nosuid", "noexec", "noatime", "nodiratime", "nosymfollow"}
    assert {"lazytime", "sync", "size=64k"} <= superblock(text)["/tmp"]


@pytest.mark.conformance(10)
def test_options_that_are_longer_than_the_kernel_takes(lab: Lab) -> None:
    """Of an overlay's layers there may be many; else it is told."""
    layers = [lab.directory / f"{i}{'x' * 100}" for i in range(6)]
    for i, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{i}").touch()
        (layer / "which").write_text(f"{i}\n")
    mount = {"destination": "/tmp", "type": "overlay", "options": [f"lowerdir={':'.join(map(str, layers))}"]}
    if read_host().kernel >= (6, 5):
        assert lab.run("cd /tmp; ls; cat which", mounts=with_mounts(mount)).split() == [*(f"file{i}" for i in range(6)), "which", "0"]
    else:
        with pytest.raises(SetupError, match="no more than 255 bytes of the option lowerdir"):
            lab.create("true", mounts=with_mounts(mount))
    with pytest.raises(SetupError, match="no more than 255 bytes of the option size") as raised:
        lab.create("true", mounts=with_mounts({"destination": "/tmp", "type": "tmpfs", "options": [f"size={'0' * 256}1m"]}))
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("new tmpfs", "E2BIG", "$.mounts[7]")


@pytest.mark.conformance(3)
def test_the_type_of_a_bind_mount_is_a_dummy_and_bind_is_no_type(lab: Lab, volume: Path) -> None:
    dummy = {**bind(volume, "bind"), "type": "tmpfs"}
    assert lab.run("cat /tmp/file", mounts=with_mounts(dummy)) == "text\n"
    own = {"destination": "/tmp", "source": "bind", "type": "tmpfs", "options": ["mode=700"]}
    assert lab.run("ls -A /tmp; stat -c %a /tmp", mounts=with_mounts(own)) == "700\n"


@pytest.mark.conformance(3)
def test_mounts_are_made_in_their_order(lab: Lab, volume: Path) -> None:
    """A later one covers what an earlier one has put below, and is in an earlier one's directory."""
    tmpfs = {"destination": "/tmp", "type": "tmpfs"}
    inner = bind(volume / "file", "bind", to="/tmp/inner")
    assert lab.run("ls /tmp", mounts=with_mounts(tmpfs, inner)) == "inner\n"
    assert lab.run("ls /tmp", mounts=with_mounts(inner, tmpfs)) == ""
    # of a bind mount the place is made in the volume
    assert lab.run("ls /tmp", mounts=with_mounts(bind(volume, "bind"), inner)).split() == ["back", "file", "inner", "late", "sub"]


@pytest.mark.conformance(4)
@pytest.mark.parametrize("destination", ["tmp/a", "./tmp/../tmp/a/", "../../tmp/a", "/tmp//a"])
def test_destination(lab: Lab, volume: Path, destination: str) -> None:
    """A relative one is relative to /, and no destination is above it."""
    mounts = with_mounts({"destination": "/tmp", "type": "tmpfs"}, bind(volume, "bind", to=destination))
    assert lab.run("cat /tmp/a/file", mounts=mounts) == "text\n"


@pytest.mark.conformance(3)
def test_relative_source(lab: Lab) -> None:
    """To the bundle."""
    bundle = Path(lab.bundle("cat /tmp/there", mounts=with_mounts(bind(Path("volume"), "bind", "ro"))))
    (bundle / "volume").mkdir()
    (bundle / "volume" / "there").write_text("text\n")
    pid = lab.runtime.create_container("p1", str(bundle), StdioOptions(create_out=True))
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "text\n"


@pytest.mark.conformance(26)
def test_default_file_systems(lab: Lab) -> None:
    text = lab.run("cat /proc/self/mountinfo; ls -d /proc/self /sys/class /dev/pts/ptmx; echo x >/dev/shm/x && cat /dev/shm/x")
    *mounts, device, process, classes, written = text.splitlines()
    kinds = {line.split()[4]: line.split(" - ")[1].split()[0] for line in mounts}
    assert [kinds[path] for path in ("/proc", "/sys", "/dev/pts", "/dev/shm")] == ["proc", "sysfs", "devpts", "tmpfs"]
    assert (device, process, classes, written) == ("/dev/pts/ptmx", "/proc/self", "/sys/class", "x")


@pytest.fixture
def restricted_rootfs(lab: Lab) -> Iterator[Path]:
    path = lab.directory / "restricted"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noatime", "restricted", str(path)], check=True)
    yield make_rootfs(path / "rootfs")
    lab.delete_all()
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.conformance(2)
@pytest.mark.parametrize("readonly", [True, False])
def test_a_read_only_root_keeps_its_other_options(lab: Lab, restricted_rootfs: Path, readonly: bool) -> None:
    found = words(lab.run("cat /proc/self/mountinfo", root={"path": str(restricted_rootfs), "readonly": readonly}))
    assert found["/"] == {"ro" if readonly else "rw", "nosuid", "nodev", "noatime"}
    assert words(Path("/proc/self/mountinfo").read_text())[str(restricted_rootfs.parent)] == {"rw", "nosuid", "nodev", "noatime"}


@pytest.mark.conformance(53)
def test_absent_paths_stay_absent(lab: Lab) -> None:
    """And nothing is mounted for them, whatever of the path is missing or is a file."""
    absent = ["/absent", "/absent/deep", "/etc/passwd/below"]
    without = lab.run("cat /proc/self/mountinfo", linux={"maskedPaths": [], "readonlyPaths": []})
    found = lab.run("cat /proc/self/mountinfo; ls -d /absent", linux={"maskedPaths": absent, "readonlyPaths": absent})
    assert [line.split()[4] for line in found.splitlines()] == [line.split()[4] for line in without.splitlines()]
