"""Id-mapped mounts: whose a file is in the container, and on the host."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.host import read_host

pytestmark = pytest.mark.conformance(8)

USER = {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}
IMAGE_BYTES = 16 << 20


def mapping(host: int, container: int = 0, size: int = 1000) -> dict[str, Any]:
    """Of the owners of files, the same for users and groups."""
    return {f"{kind}Mappings": [{"containerID": container, "hostID": host, "size": size}] for kind in ("uid", "gid")}


@pytest.fixture
def owned(lab: Lab) -> Iterator[Path]:
    """A volume with a mount in it, both with files of the users 0 and 7, of file systems whose ids this kernel can map."""
    path, image = lab.directory / "owned", lab.directory / "image"
    path.mkdir()
    if read_host().kernel >= (6, 3):
        subprocess.run(["mount", "-t", "tmpfs", "owned", str(path)], check=True)
    else:  # no tmpfs
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
    for at in (path, path / "inner"):
        at.mkdir(exist_ok=True)
        for user in (0, 7):
            (at / f"of{user}").touch()
            os.chown(at / f"of{user}", user, user)
    (path / "sub").mkdir()
    subprocess.run(["mount", "--bind", str(path / "inner"), str(path / "sub")], check=True)
    yield path
    lab.delete_all()
    subprocess.run(["umount", "-R", str(path)], check=True)


SHOW = "stat -c '%u:%g' /tmp/of0 /tmp/of7"
SHOW_BELOW = f"{SHOW} /tmp/sub/of0"


def test_own_mappings(lab: Lab, owned: Path) -> None:
    mount = {**bind(owned, "bind", "idmap"), **mapping(1000)}
    owned.chmod(0o777)
    out = lab.run(f"{SHOW}; touch /tmp/new", mounts=with_mounts(mount), process={"user": {"uid": 1007, "gid": 1007}})
    assert out.split() == ["1000:1000", "1007:1007"]
    assert ((owned / "new").stat().st_uid, (owned / "new").stat().st_gid) == (7, 7)


def test_users_and_groups_apart(lab: Lab, owned: Path) -> None:
    mount = {**bind(owned, "bind", "idmap"),
             "uidMappings": [{"containerID": 0, "hostID": 100, "size": 5}, {"containerID": 7, "hostID": 200, "size": 1}],
             "gidMappings": [{"containerID": 0, "hostID": 300, "size": 10}]}
    assert lab.run(SHOW, mounts=with_mounts(mount)).split() == ["100:300", "200:307"]


def test_what_is_not_mapped_is_nobodys(lab: Lab, owned: Path) -> None:
    mount = {**bind(owned, "bind", "idmap"), **mapping(1000, size=1)}
    assert lab.run(SHOW, mounts=with_mounts(mount)).split() == ["1000:1000", "65534:65534"]


@pytest.mark.parametrize(("options", "below"), [(("idmap",), "0:0"), (("ridmap",), "1000:1000"), ((), "0:0"), (("ridmap", "idmap"), "0:0")])
def test_what_is_mounted_below(lab: Lab, owned: Path, options: tuple[str, ...], below: str) -> None:
    """`ridmap` maps it as well; mappings without an option are as with `idmap`."""
    mount = {**bind(owned, "rbind", *options), **mapping(1000)}
    assert lab.run(SHOW_BELOW, mounts=with_mounts(mount)).split() == ["1000:1000", "1007:1007", below]
    # the host's own is as before
    assert (owned / "of7").stat().st_uid == 7


@pytest.mark.parametrize(("options", "below"), [(("idmap",), "65534:65534"), (("ridmap",), "0:0")])
def test_the_containers_mappings(reachable: Lab, owned: Path, options: tuple[str, ...], below: str) -> None:
    """For a mount without mappings in a user namespace: files of the host's root are the container's root's."""
    out = reachable.run(f"{SHOW_BELOW}; touch /tmp/new", mounts=with_mounts(bind(owned, "rbind", *options)), **USER)
    assert out.split() == ["0:0", "7:7", below]
    assert ((owned / "new").stat().st_uid, (owned / "new").stat().st_gid) == (0, 0)


def test_own_mappings_in_a_user_namespace(reachable: Lab, owned: Path) -> None:
    """They are of ids of the host, of which the container's namespace knows some."""
    mount = {**bind(owned, "bind", "idmap"), "uidMappings": [{"containerID": 0, "hostID": 100005, "size": 10}],
             "gidMappings": [{"containerID": 0, "hostID": 200006, "size": 10}]}
    assert reachable.run(SHOW, mounts=with_mounts(mount), **USER).split() == ["5:6", "12:13"]


@pytest.mark.parametrize("options", [(), ("idmap",)])
def test_a_joined_user_namespace(reachable: Lab, owned: Path, options: tuple[str, ...]) -> None:
    """Its mappings hold, whatever is given besides."""
    first = reachable.sleeper("p2", **USER)
    linux = {"namespaces": namespaces(*(name for name in NAMESPACES), user=f"/proc/{first}/ns/user")}
    mounts = with_mounts(bind(owned, "bind", *options))
    assert reachable.run(SHOW, mounts=mounts, linux=linux).split() == (["0:0", "7:7"] if options else ["65534:65534"] * 2)


def test_before_hooks_and_with_a_read_only_mount(lab: Lab, owned: Path) -> None:
    mount = {**bind(owned, "bind", "idmap", "ro", "nosuid", "rslave"), **mapping(1000)}
    out = lab.run(f"{SHOW}; touch /tmp/new 2>/dev/null || echo refused", mounts=with_mounts(mount),
                  hooks={"createContainer": [{"path": "/bin/true"}]})
    assert out.split() == ["1000:1000", "1007:1007", "refused"]


@pytest.mark.parametrize(("text", "expected"), [
    ("uids=0-1000-10;gids=0-2000-10", ["1000:2000", "1007:2007"]),
    ("gids=0-2000-10;uids=0-1000-1#7-3000-1", ["1000:2000", "3000:2007"]),
])
def test_mappings_that_are_written_in_the_option(lab: Lab, owned: Path, text: str, expected: list[str]) -> None:
    """As crun has them, for podman's `--volume ...:idmap=`."""
    assert lab.run(SHOW, mounts=with_mounts(bind(owned, "bind", f"idmap={text}"))).split() == expected


def test_mappings_in_the_option_that_are_the_containers(reachable: Lab, owned: Path) -> None:
    mounts = with_mounts(bind(owned, "rbind", "ridmap=uids=@0-5-10;gids=@0-6-10"))
    assert reachable.run(SHOW_BELOW, mounts=mounts, **USER).split() == ["5:6", "12:13", "5:6"]


@pytest.mark.parametrize("text", ["", "uids=0-1-1", "uids=0-1-1;gids=0-1", "uids=0-1-1;gids=0-1-x", "uids=0-1-1;uids=0-1-1",
                                  "uids=0-1-1;gids=@0-1-1", "uids=0-1-1;gids=0-1-1;x=1"])
def test_what_is_no_mapping(lab: Lab, owned: Path, text: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", mounts=with_mounts(bind(owned, "bind", f"idmap={text}")))
    assert raised.value.json_path == "$.mounts[7].options[1]"


def test_a_file_system_that_cannot_be_mapped_says_so(lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", mounts=with_mounts({**bind(Path("/proc"), "rbind", "idmap"), **mapping(1000)}))
    assert (raised.value.step, raised.value.path, raised.value.errno_name, raised.value.json_path) == (
        "map mount ids", "/tmp", "EINVAL", "$.mounts[7].options[1]")
    assert "cannot map the ids of such a file system" in str(raised.value)


@pytest.mark.conformance(57)
@pytest.mark.parametrize(("fault", "errno_name"), [(Fault("write", "EPERM", {2: 14}), "EPERM"), (Fault("clone3", "ENOSPC"), "ENOSPC")], ids=str)
def test_a_namespace_that_cannot_be_made(lab: Lab, owned: Path, fault: Fault, errno_name: str) -> None:
    """Neither what is written nor who waits for it is left."""
    assert len("0 7654321 321\n") == 14
    mounts = with_mounts({**bind(owned, "bind", "idmap"), **mapping(7654321, size=321)})
    linux = {"namespaces": namespaces("mount", "uts")}
    with pytest.raises(SetupError) as raised:
        fault.during(lambda: lab.create("true", mounts=mounts, linux=linux))
    if errno_name == "EPERM":
        assert (raised.value.step, raised.value.path, raised.value.errno_name, raised.value.json_path) == (
            "make user namespace", "user", "EPERM", "$.mounts[7].uidMappings")
        assert "write uid_map 0 7654321 321" in str(raised.value)
    assert raised.value.errno_name == errno_name and not lab.runtime.container_exists("p1")
    assert lab.run("stat -c %u /tmp/of7", mounts=mounts, linux=linux) == "7654328\n"


def test_a_new_file_system(lab: Lab) -> None:
    """Of one that is made for the container, where no user namespace keeps the init from it."""
    mount = {"destination": "/tmp", "type": "tmpfs", "options": ["idmap", "uid=3", "gid=4"], **mapping(1000)}
    if read_host().kernel >= (6, 3):
        assert lab.run("stat -c %u:%g /tmp", mounts=with_mounts(mount)).split() == ["1003:1004"]
    else:
        with pytest.raises(SetupError, match="cannot map the ids of such a file system"):
            lab.create("true", mounts=with_mounts(mount))


@pytest.mark.parametrize(("mount", "changes", "kind", "json_path"), [
    ({**bind(Path("/tmp"), "bind", "idmap")}, {}, InvalidBundleError, "$.mounts[7].options"),
    ({**bind(Path("/tmp"), "bind"), "uidMappings": mapping(1)["uidMappings"]}, {}, InvalidBundleError, "$.mounts[7].gidMappings"),
    ({**bind(Path("/tmp"), "bind"), "gidMappings": mapping(1)["gidMappings"]}, USER, InvalidBundleError, "$.mounts[7].uidMappings"),
    ({"destination": "/tmp", "options": ["remount", "idmap"], **mapping(1)}, {}, InvalidBundleError, "$.mounts[7].options[1]"),
    ({"destination": "/tmp", "type": "tmpfs", "options": ["idmap"]}, USER, UnsupportedFieldError, "$.mounts[7].options[0]"),
    ({"destination": "/tmp", "type": "cgroup", **mapping(1)}, {}, UnsupportedFieldError, "$.mounts[7].uidMappings"),
])
def test_what_cannot_be_mapped(lab: Lab, mount: dict[str, Any], changes: dict[str, Any], kind: type[InvalidBundleError],
                               json_path: str) -> None:
    with pytest.raises(kind) as raised:
        lab.create("true", mounts=with_mounts(mount), **changes)
    assert (type(raised.value), raised.value.json_path) == (kind, json_path)


def test_nothing_is_left_of_the_namespaces_that_mappings_need(lab: Lab, owned: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a process nor a descriptor, of this process and of the container's; two mounts with the same mappings have one."""
    before = set(os.listdir("/proc/self/fd"))
    caplog.set_level(logging.WARNING)
    mounts = with_mounts(*({**bind(owned, "bind", "idmap", to=f"/tmp/{i}"), **mapping(1000 if i else 2000)} for i in range(3)),)
    mounts.insert(7, {"destination": "/tmp", "type": "tmpfs"})
    pid = lab.sleeper(mounts=mounts)
    assert lab.exec("stat -c %u /tmp/0/of0 /tmp/1/of0 /tmp/2/of0").split() == ["2000", "1000", "1000"]
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    lab.runtime.delete_container("p1", force=True)
    assert set(os.listdir("/proc/self/fd")) == before and not caplog.records
