"""User namespaces that root makes: which ids there are, what belongs to them, and what cannot be mounted in them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, namespaces

from pyruntime.errors import SetupError
from pyruntime.testing.bundles import default_config

NS_GET_USERNS = 0xB701  # ioctl_ns(2)


def mapped(*extents: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"containerID": container, "hostID": host, "size": size} for container, host, size in extents]


def linux(uids: list[dict[str, int]] = MAPS["uidMappings"], gids: list[dict[str, int]] = MAPS["gidMappings"],
          kinds: tuple[str, ...] = (*NAMESPACES, "user"), **joined: str) -> dict[str, Any]:
    return {"namespaces": namespaces(*kinds, **joined), "uidMappings": uids, "gidMappings": gids}


@pytest.mark.conformance(29)
def test_several_extents(reachable: Lab) -> None:
    extents = mapped((0, 100000, 10), (10, 300000, 5), (1000, 200000, 1))
    script = "cat /proc/self/uid_map; touch /tmp/x; chown 12:1000 /tmp/x; stat -c '%u %g' /tmp/x; id -u; id -G"
    capabilities = {kind: ["CAP_CHOWN"] for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")}
    tmp = {"destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"]}
    out = reachable.run(script, linux=linux(extents, extents), mounts=[*default_config()["mounts"], tmp], process={
        "user": {"uid": 1000, "gid": 10, "additionalGids": [3, 1000]}, "capabilities": capabilities}).split()
    assert out == ["0", "100000", "10", "10", "300000", "5", "1000", "200000", "1", "12", "1000", "1000", "10", "3", "1000"]
    pid = reachable.sleeper(linux=linux(extents, extents), process={"user": {"uid": 12, "gid": 1000}})
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t300002\t" in status and "Gid:\t200000\t" in status


@pytest.mark.conformance(29)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_a_mapping_without_root(reachable: Lab, how: str) -> None:
    """The init sets up as the first id that there is; a program has what its configuration gives it."""
    ids = mapped((7, 100007, 5))
    mounts = [mount for mount in default_config()["mounts"] if mount["destination"] != "/dev/pts"]
    changes = {"linux": linux(ids, ids), "mounts": mounts, "process": {"user": {"uid": 8, "gid": 9}}}
    script = "id -u; id -g; cat /proc/self/uid_map; echo x >/dev/null && echo null; grep CapEff /proc/self/status"
    if how == "init":
        out = reachable.run(script, **changes)
    else:
        reachable.sleeper(**changes)
        out = reachable.exec(script, user={"uid": 8, "gid": 9}, capabilities={})
    assert out.split() == ["8", "9", "7", "100007", "5", "null", "CapEff:", "0" * 16]


@pytest.mark.conformance(31, 32)
def test_a_listed_ptmx_is_the_containers_own(reachable: Lab) -> None:
    """As a privileged container of podman's lists it, among all devices of the host."""
    listed = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666},
              {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
    for changes in (linux(), {}):
        out = reachable.run("readlink /dev/ptmx; stat -c '%t:%T' /dev/ptmx -L /dev/kmsg; (: <>/dev/ptmx) && echo opened",
                            linux={**changes, "devices": listed})
        assert out.split() == ["pts/ptmx", "5:2", "1:b", "opened"]


@pytest.mark.conformance(27, 29)
def test_message_queues_belong_to_the_namespaces_root(reachable: Lab) -> None:
    """The kernel makes their file system together with the ipc namespace, as whoever does that."""
    out = reachable.run("cd /dev/mqueue; stat -c '%u:%g %a' .; : >queue; rm queue && chmod 1700 . && stat -c %a .", linux=linux())
    assert out.split() == ["0:0", "1777", "1700"]


@pytest.mark.conformance(27, 29)
def test_namespaces_belong_to_the_user_namespace(reachable: Lab) -> None:
    pid = reachable.sleeper(linux=linux(kinds=(*NAMESPACES, "user", "time")))
    own = os.stat(f"/proc/{pid}/ns/user")
    for name in ("mnt", "net", "ipc", "uts", "pid", "cgroup", "time"):
        descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        owner = fcntl.ioctl(descriptor, NS_GET_USERNS)
        assert (os.fstat(owner).st_dev, os.fstat(owner).st_ino) == (own.st_dev, own.st_ino), name
        os.close(owner)
        os.close(descriptor)
    reachable.runtime.delete_container("p1", force=True)
    script = "hostname other && hostname; echo 1 >/proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward"
    capabilities = {kind: ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"] for kind in ("bounding", "permitted", "effective")}
    writable = {**linux(), "readonlyPaths": []}
    assert reachable.run(script, linux=writable, process={"capabilities": capabilities}).split() == ["other", "1"]


@pytest.fixture
def without_groups() -> Iterator[str]:
    """The path of a user namespace of root's in which groups cannot be set."""
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "sh", "-c", "echo ready; exec cat"], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        yield f"/proc/{holder.pid}/ns/user"


def test_groups_that_are_kept_where_a_user_namespace_is_joined(reachable: Lab, without_groups: str) -> None:
    """Which is what an annotation asks for; they have no ids there."""
    kinds = tuple(name for name in NAMESPACES if name != "cgroup")
    mounts = [mount for mount in default_config()["mounts"] if mount["destination"] not in ("/dev/pts", "/sys/fs/cgroup")]
    before = os.getgroups()
    os.setgroups([4321])
    try:
        pid = reachable.sleeper(linux={"namespaces": namespaces(*kinds, user=without_groups)}, mounts=mounts,
                                annotations={"run.oci.keep_original_groups": "1"})
        groups = [line.split()[1:] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Groups:")]
        assert groups == [["4321"]]
        assert reachable.exec("grep Groups: /proc/self/status").split() == ["Groups:", "65534"]
    finally:
        os.setgroups(before)


@pytest.mark.conformance(28, 29)
def test_a_user_namespace_without_setgroups_is_joined(reachable: Lab, without_groups: str) -> None:
    """Nothing of the caller's groups comes along, also with a further process."""
    kinds = tuple(name for name in NAMESPACES if name != "cgroup")
    mounts = [mount for mount in default_config()["mounts"] if mount["destination"] not in ("/dev/pts", "/sys/fs/cgroup")]
    changes = {"linux": {"namespaces": namespaces(*kinds, user=without_groups)}, "mounts": mounts}
    before = os.getgroups()
    os.setgroups([4321])
    try:
        pid = reachable.sleeper(**changes)
        groups = [line.split()[1:] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Groups:")]
        assert groups == [[]]
        assert reachable.exec("grep Groups: /proc/self/status").split() == ["Groups:"]
    finally:
        os.setgroups(before)
    with pytest.raises(SetupError) as raised:
        reachable.exec("true", user={"uid": 0, "gid": 0, "additionalGids": [0]})
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("set identity", "EPERM", "$.user")


@pytest.mark.parametrize(("left_out", "mount", "words"), [
    ("network", {"destination": "/sys", "type": "sysfs", "source": "sysfs"}, "/sys of the host can be bound"),
    ("pid", {"destination": "/proc", "type": "proc", "source": "proc"}, "/proc of the host can be bound"),
    ("ipc", {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}, "/dev/mqueue of the host can be bound")])
def test_a_file_system_of_a_namespace_that_is_the_hosts(reachable: Lab, left_out: str, mount: dict[str, Any], words: str) -> None:
    kinds = tuple(name for name in (*NAMESPACES, "user") if name != left_out)
    with pytest.raises(SetupError) as raised:
        reachable.sleeper(linux=linux(kinds=kinds), mounts=[mount])
    error = raised.value
    assert (error.step, error.errno_name, error.json_path) == ("new filesystem", "EPERM", "$.mounts[0]") and words in error.detail
    assert left_out in error.detail
    assert not reachable.runtime.container_exists("p1")


def test_an_option_with_an_id_that_is_not_mapped(reachable: Lab) -> None:
    ids = mapped((0, 100000, 3))
    with pytest.raises(SetupError) as raised:
        reachable.sleeper(linux=linux(ids, ids))
    assert raised.value.json_path == "$.mounts[2]" and "gid=5 is not mapped" in raised.value.detail


def test_a_namespace_that_the_user_namespace_does_not_own_is_not_joined(reachable: Lab) -> None:
    kinds = tuple(name for name in (*NAMESPACES, "user") if name != "network")
    reachable.sleeper("p2")
    path = f"/proc/{reachable.runtime.get_init_pid('p2')}/ns/net"
    with pytest.raises(SetupError) as raised:
        reachable.sleeper(linux=linux(kinds=kinds, network=path))
    assert (raised.value.step, raised.value.errno_name, raised.value.path) == ("join namespace", "EPERM", "network")
    assert "has to be joined, too" in raised.value.detail
