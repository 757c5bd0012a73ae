"""What is around the program: its root, file systems, devices and namespaces; rows 2, 3, 23, 26 to 31, 36, 49, 50 and 53."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, is_unified, namespaces, with_mounts
from probing import Probe

from pyruntime import StdioOptions
from pyruntime.cgroups import cgroups_of
from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config, make_rootfs

pytestmark = pytest.mark.privileged
FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "user": "user", "time": "time"}


@pytest.mark.conformance(2)
def test_a_root_beside_the_configuration(lab: Lab) -> None:
    """Relative to the bundle, wherever the caller is."""
    bundle = Path(lab.bundle("cat /mark", root={"path": "own/root"}))
    (make_rootfs(bundle / "own" / "root") / "mark").write_text("here\n")
    pid = lab.runtime.create_container("p1", str(bundle), StdioOptions(create_out=True))
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "here\n"
    lab.runtime.wait_on_container("p1")


@pytest.fixture
def restricted_root(lab: Lab) -> Iterator[Path]:
    """A root file system that is a mount with options of its own."""
    root = lab.directory / "restricted"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noatime", "restricted", root], check=True)
    make_rootfs(root)
    yield root
    lab.delete_all()
    subprocess.run(["umount", root], check=True)


@pytest.mark.conformance(2)
@pytest.mark.parametrize("readonly", [True, False])
def test_options_of_mounts_stay(lab: Lab, probe_program: Path, restricted_root: Path, readonly: bool) -> None:
    """A read-only root keeps the options that its mount has, and leaves what is mounted in it writable."""
    lab.rootfs, whole = restricted_root, lab.rootfs
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    try:
        probe = Probe(lab, probe_program)
        answers = probe.run("mounts", root={"readonly": readonly}, mounts=[*default_config()["mounts"], tmpfs])
    finally:
        lab.rootfs = whole
    assert {"nosuid", "nodev", "noatime", "ro" if readonly else "rw"} <= answers.mount("/").options
    assert "rw" in answers.mount("/tmp").options and "rw" in answers.mount("/dev").options


@pytest.mark.conformance(3)
@pytest.mark.parametrize("kind", [None, "none", "bind", "tmpfs", "no-such-type"])
@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_bind_mount_is_one_by_its_options(probe: Probe, kind: str | None, option: str) -> None:
    """Whatever its type says, and though a mount of that type would be empty."""
    source = probe.lab.directory / "source"
    source.mkdir()
    (source / "file").write_text("of the host\n")
    mount = {"destination": "/tmp", "source": str(source), "options": [option, "ro"], **({} if kind is None else {"type": kind})}
    answers = probe.run("file:/tmp/file", "mounts", mounts=with_mounts(mount))
    assert answers.text("file:/tmp/file") == "of the host" and "ro" in answers.mount("/tmp").options


@pytest.mark.conformance(3)
def test_mounts_are_made_in_their_order(probe: Probe) -> None:
    """A later one lies in or over an earlier one, which one could not reach in another order."""
    def tmpfs(destination: str, *options: str) -> dict[str, Any]:
        return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}

    answers = probe.run("mounts", mounts=with_mounts(
        *(tmpfs(path, f"size={n}M") for n, path in enumerate(("/tmp", "/tmp/a", "/tmp/a/b", "/tmp/c", "/tmp"), start=1))))
    own = [mount for mount in answers.mounts if mount.target.startswith("/tmp")]
    assert [mount.target for mount in own] == ["/tmp", "/tmp/a", "/tmp/a/b", "/tmp/c", "/tmp"]
    sizes = [next(option for option in mount.super_options if option.startswith("size=")) for mount in own]
    assert sizes == [f"size={1024 * n}k" for n in range(1, 6)]
    by_id = {mount.id: mount for mount in own}
    assert [by_id[mount.parent].target if mount.parent in by_id else "" for mount in own] == ["", "/tmp", "/tmp/a", "/tmp", "/tmp"]


@pytest.mark.conformance(26)
def test_default_file_systems(probe: Probe) -> None:
    """Of the kinds that the specification wants, and of this container's namespaces."""
    answers = probe.run("mounts", "process", "uname", "file:/proc/1/status", "file:/sys/class/net/lo/operstate", linux={
        "namespaces": namespaces(*NAMESPACES)})
    assert {target: answers.mount(target).type for target in ("/proc", "/sys", "/dev/pts", "/dev/shm")} == {
        "/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
    assert answers.process.pid == 1 and answers.text("file:/proc/1/status").startswith("Name:\tprobe\n")
    assert answers.text("file:/sys/class/net/lo/operstate") in ("down", "unknown")
    out = probe.lab.run("ls /sys/class/net; echo x >/dev/shm/x && cat /dev/shm/x; ls /dev/pts")
    assert out.split() == ["lo", "x", "ptmx"]


@pytest.mark.conformance(28)
@pytest.mark.parametrize(("kind", "other"), [("network", "uts"), ("uts", "ipc"), ("ipc", "mnt"), ("mount", "pid"), ("pid", "cgroup"),
                                             ("cgroup", "net"), ("time", "uts"), ("user", "net")])
def test_a_path_to_another_kind_of_namespace(lab: Lab, kind: str, other: str) -> None:
    joined = namespaces(*(name for name in NAMESPACES if name not in (kind, "uts")), **{kind: f"/proc/self/ns/{other}"})
    with pytest.raises(SetupError) as raised:
        lab.create("true", hostname=None, linux={"namespaces": joined})
    index = next(i for i, namespace in enumerate(joined) if "path" in namespace)
    assert (raised.value.json_path, raised.value.errno_name) == (f"$.linux.namespaces[{index}].path", "EINVAL")
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(28)
@pytest.mark.parametrize("second", [{"type": "ipc"}, {"type": "ipc", "path": "/proc/self/ns/ipc"}], ids=["new", "joined"])
def test_a_namespace_that_is_listed_twice(lab: Lab, second: dict[str, str]) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", linux={"namespaces": [*namespaces(*NAMESPACES), second]})
    assert raised.value.json_path == f"$.linux.namespaces[{len(NAMESPACES)}].type"


@pytest.mark.conformance(29)
def test_id_mappings(reachable: Lab, probe: Probe) -> None:
    """Several extents, and nobody of the host's but those."""
    maps = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 1000, "hostID": 300000, "size": 5}],
            "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 20}]}
    answers = probe.run("uid_map", "gid_map", "ids", "file:/proc/self/setgroups", process={"user": {"uid": 1003, "gid": 7}},
                        linux={"namespaces": namespaces(*NAMESPACES, "user"), **maps})
    assert [line.split() for line in answers.text("uid_map").splitlines()] == [["0", "100000", "10"], ["1000", "300000", "5"]]
    assert answers.text("gid_map").split() == ["0", "200000", "20"]
    assert (answers.ids.uid, answers.ids.gid) == ((1003,) * 4, (7,) * 4)
    assert answers.text("file:/proc/self/setgroups") == "allow"


@pytest.mark.conformance(30)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_clocks(probe: Probe, how: str) -> None:
    """Both differ from the host's by what was asked for; the time of day does not."""
    linux = {"namespaces": namespaces(*NAMESPACES, "time"),
             "timeOffsets": {"monotonic": {"secs": 5000, "nanosecs": 500_000_000}, "boottime": {"secs": -1}}}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    if how == "init":
        clocks = probe.run("clocks", linux=linux).clocks
    else:
        probe.lab.sleeper(linux=linux)
        clocks = probe.exec("clocks").clocks
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    seen = clocks.monotonic - 5_000_500_000_000, clocks.boottime + 1_000_000_000, clocks.realtime
    assert all(early <= now <= late for early, now, late in zip(before, seen, after, strict=True))


@pytest.mark.conformance(31)
def test_devices_of_every_type(lab: Lab) -> None:
    devices = [{"path": "/dev/c", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
               {"path": "/dev/u", "type": "u", "major": 1, "minor": 5, "fileMode": 0o604},
               {"path": "/opt/b", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600, "uid": 7, "gid": 8},
               {"path": "/opt/p", "type": "p", "fileMode": 0o622, "uid": 1}]
    shown = lab.run("stat -c '%n|%F|%t|%T|%a|%u|%g' /dev/c /dev/u /opt/b /opt/p", linux={"devices": devices}, root={"readonly": False})
    assert [line.split("|") for line in shown.splitlines()] == [
        ["/dev/c", "character special file", "1", "3", "640", "5", "6"], ["/dev/u", "character special file", "1", "5", "604", "0", "0"],
        ["/opt/b", "block special file", "7", "c8", "600", "7", "8"], ["/opt/p", "fifo", "0", "0", "622", "1", "0"]]


@pytest.mark.conformance(49)
@pytest.mark.parametrize("key", ["net.ipv4.conf.lo.forwarding", "net/ipv4/conf/lo/forwarding"])
def test_sysctl(probe: Probe, key: str) -> None:
    """In either spelling, before the program and its user; the host's stays."""
    file = "/proc/sys/net/ipv4/conf/lo/forwarding"
    own = Path(file).read_text().strip()
    answers = probe.run(f"file:{file}", linux={"sysctl": {key: "1" if own == "0" else "0"}}, process={"user": {"uid": 9, "gid": 9}})
    assert answers.text(f"file:{file}") == ("1" if own == "0" else "0")
    assert Path(file).read_text().strip() == own


SECCOMP: dict[str, tuple[dict[str, Any], str]] = {
    "errno": ({"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}, "EPERM"),
    "another errno": ({"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 110}, "ETIMEDOUT"),
    "kill": ({"names": ["keyctl"], "action": "SCMP_ACT_KILL"}, "SIGSYS"),
    "trap": ({"names": ["keyctl"], "action": "SCMP_ACT_TRAP"}, "SIGSYS"),
    "trace": ({"names": ["keyctl"], "action": "SCMP_ACT_TRACE"}, "ENOSYS"),
    "log": ({"names": ["keyctl"], "action": "SCMP_ACT_LOG"}, "EOPNOTSUPP"),
    "another call": ({"names": ["add_key"], "action": "SCMP_ACT_ERRNO"}, "EOPNOTSUPP"),
    "condition that holds": ({"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 0xFFFF, "valueTwo": 0xFFFF, "op": "SCMP_CMP_MASKED_EQ"}]}, "EPERM"),
    "condition that does not": ({"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 5, "op": "SCMP_CMP_LT"}]}, "EOPNOTSUPP")}


@pytest.mark.conformance(50)
@pytest.mark.parametrize("what", SECCOMP)
def test_seccomp_rule(probe: Probe, what: str) -> None:
    rule, outcome = SECCOMP[what]
    answers = probe.run("syscall:keyctl", "seccomp", "filters", linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}})
    assert (answers.call("keyctl"), answers.number("seccomp"), answers.number("filters")) == (outcome, 2, 1)


# of the probe and of what starts it; the last is newer than keyctl, which is so no call newer than the profile
NEEDED = """read write close openat fstat lseek brk mmap munmap mprotect execve arch_prctl set_tid_address rt_sigaction rt_sigprocmask
rt_sigreturn fork clone wait4 exit exit_group pipe writev readv ioctl fcntl getpid gettid capset prctl sendmsg recvmsg accept4
set_robust_list clone3"""


@pytest.mark.conformance(50)
@pytest.mark.parametrize("number", [None, 38, 110])
def test_seccomp_default_action(probe: Probe, number: int | None) -> None:
    """Of calls that the profile knows not to be newer; only what it names passes."""
    profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": NEEDED.split(), "action": "SCMP_ACT_ALLOW"}]}
    if number is not None:
        profile["defaultErrnoRet"] = number
    answers = probe.run("syscall:keyctl", "syscall:getpid", "syscall:add_key", linux={"seccomp": profile})
    assert answers.call("keyctl") == answers.call("add_key") == {None: "EPERM", 38: "ENOSYS", 110: "ETIMEDOUT"}[number]
    assert isinstance(answers.call("getpid"), int)


@pytest.mark.conformance(53)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_masked_and_read_only_paths(probe: Probe, how: str) -> None:
    """A file that is masked is empty, a directory too and cannot be written to; what is below a read-only path is it too."""
    lab = probe.lab
    (lab.rootfs / "secret").mkdir()
    for name in ("secret/file", "plain"):
        (lab.rootfs / name).write_text("secret\n")
    linux = {"maskedPaths": ["/secret", "/plain", "/proc/uptime", "/no/such"], "readonlyPaths": ["/proc/sys", "/tmp", "/no/such"]}
    questions = ("mounts", "file:/plain", "file:/secret/file", "file:/proc/uptime")
    if how == "init":
        answers = probe.run(*questions, linux=linux, root={"readonly": False})
    else:
        lab.sleeper(linux=linux, root={"readonly": False})
        answers = probe.exec(*questions)
    assert (answers.text("file:/plain"), answers.text("file:/proc/uptime"), answers.failure("file:/secret/file")) == ("", "", "ENOENT")
    assert "ro" in answers.mount("/secret").options
    for path in linux["readonlyPaths"][:2]:
        assert "ro" in answers.mount(path).options
    assert "rw" in answers.mount("/").options


@pytest.mark.conformance(23)
def test_names(probe: Probe) -> None:
    """The host's stay."""
    before = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
    uname = probe.run("uname", hostname="h" * 64, domainname="d.example").uname
    assert (uname.hostname, uname.domainname) == ("h" * 64, "d.example")
    assert (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()) == before


@pytest.mark.conformance(1, 25)
def test_a_newer_configuration(lab: Lab) -> None:
    """Of a minor version that is not known, with members that are not; they mean nothing."""
    bundle = Path(lab.bundle("echo runs", annotations={"a": "b"}))
    config = json.loads((bundle / "config.json").read_text())
    config |= {"ociVersion": "1.77.0", "newest": {"a": 1}}
    config["process"] |= {"newest": [1]}
    config["linux"] |= {"newest": "x"}
    (bundle / "config.json").write_text(json.dumps(config))
    pid = lab.runtime.create_container("p1", str(bundle), StdioOptions(create_out=True))
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "runs\n"
    state = lab.runtime.get_container_state("p1")
    assert (state.oci_version, state.annotations) == ("1.77.0", {"a": "b"})
    lab.runtime.wait_on_container("p1")


@pytest.mark.conformance(27)
def test_new_namespaces_are_of_the_new_user_namespace(reachable: Lab) -> None:
    """So that its root may do in them what root does."""
    linux = {"namespaces": namespaces(*FILES), **MAPS}
    out = reachable.run("hostname changed && hostname; mount -t tmpfs x /tmp && echo mounted; echo 7 >/proc/sys/net/ipv4/ip_default_ttl && "
                        "cat /proc/sys/net/ipv4/ip_default_ttl", linux={**linux, "readonlyPaths": []},
                        process={"capabilities": {kind: ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"] for kind in (
                            "bounding", "permitted", "effective")}})
    assert out.split() == ["changed", "mounted", "7"]


def cgroup_owners(id: str = "p1") -> dict[str, tuple[int, int]]:
    """User and group of the container's cgroup and of each file in it, in all hierarchies."""
    found = {}
    for cgroup in cgroups_of(read_host(), f"/pyruntime/{id}"):
        for path in (Path(cgroup.path), *Path(cgroup.path).iterdir()):
            found[str(path)] = (path.stat().st_uid, path.stat().st_gid)
    return found


@pytest.mark.conformance(36)
@pytest.mark.parametrize(("option", "kinds", "is_given"), [("rw", ("cgroup", "user"), True), ("ro", ("cgroup", "user"), False),
                                                            ("rw", ("user",), False)], ids=["writable", "read-only", "no namespace"])
def test_whose_the_cgroup_is(reachable: Lab, option: str, kinds: tuple[str, ...], is_given: bool) -> None:
    """The user's who is the program's in the new user namespace; never on v1, where that would not be safe, and no file that limits it."""
    mounts = [{**mount, "options": ["nosuid", "noexec", "nodev", "relatime", option]} if mount["destination"] == "/sys/fs/cgroup" else mount
              for mount in default_config()["mounts"]]
    others = [name for name in NAMESPACES if name != "cgroup"]
    reachable.sleeper(mounts=mounts, process={"user": {"uid": 7, "gid": 7}}, linux={"namespaces": namespaces(*others, *kinds), **MAPS})
    owners = cgroup_owners()
    assert len(owners) > 20
    given = {path for path, (user, _) in owners.items() if user != 0}
    if not (is_given and is_unified()):
        assert given == set()
        return
    assert {owners[path][0] for path in given} == {100007}
    delegated = Path("/sys/kernel/cgroup/delegate").read_text().split()
    directory = "/sys/fs/cgroup/pyruntime/p1"
    assert given == {directory, *(path for path in owners if path.removeprefix(directory + "/") in delegated)}
    assert f"{directory}/cgroup.procs" in given and f"{directory}/pids.max" not in given
