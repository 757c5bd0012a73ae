"""Namespaces, ids, limits and capabilities, as the container sees them."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from lab import MAPS, NAMESPACES, Lab, namespaces

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup",
         "user": "user", "time": "time"}
CAPABILITY_BITS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_ADMIN": 21, "CAP_AUDIT_WRITE": 29}


def user_namespace(**linux: Any) -> dict[str, Any]:
    return {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS, **linux}}


@pytest.mark.conformance(27)
def test_each_namespace_is_new(reachable: Lab) -> None:
    pid = reachable.sleeper(linux={"namespaces": namespaces(*FILES), **MAPS})
    for name in FILES.values():
        assert os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino, name


@pytest.mark.conformance(27)
@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "time"])
def test_namespace_left_out_is_the_hosts(lab: Lab, kind: str) -> None:
    pid = lab.sleeper(linux={"namespaces": namespaces(*(name for name in NAMESPACES if name != kind))}, hostname=None)
    assert os.stat(f"/proc/{pid}/ns/{FILES[kind]}").st_ino == os.stat(f"/proc/self/ns/{FILES[kind]}").st_ino


@pytest.mark.conformance(28)
def test_two_containers_share_namespaces(lab: Lab) -> None:
    first = lab.sleeper("p1", hostname="shared")
    paths = {kind: f"/proc/{first}/ns/{FILES[kind]}" for kind in ("pid", "network", "ipc", "uts")}
    pid = lab.create("echo $$ $(hostname); cat /proc/1/cmdline", "p2", hostname=None,
                     linux={"namespaces": namespaces("mount", "cgroup", **paths)})
    for kind in paths:
        assert os.stat(f"/proc/{pid}/ns/{FILES[kind]}").st_ino == os.stat(paths[kind]).st_ino
    lab.runtime.start_container("p2")
    own, host, command = lab.read("p2", pid).split()
    assert int(own) > 1 and host == "shared" and command.startswith("/bin/sleep")
    assert lab.runtime.wait_on_container("p2").exit_code == 0
    assert lab.runtime.get_container_state("p1").status == "running"


@pytest.mark.conformance(28)
@pytest.mark.parametrize("kind", ["cgroup", "time", "user"])
def test_join_namespace_by_path(reachable: Lab, kind: str) -> None:
    new = (*NAMESPACES, "time", "user") if kind == "user" else (*NAMESPACES, "time")
    first = reachable.sleeper("p1", linux={"namespaces": namespaces(*new), **(MAPS if kind == "user" else {})})
    path = f"/proc/{first}/ns/{FILES[kind]}"
    second = reachable.sleeper("p2", linux={"namespaces": namespaces(*(n for n in NAMESPACES if n != kind),
                                                                     **{kind: path})})
    assert os.stat(f"/proc/{second}/ns/{FILES[kind]}").st_ino == os.stat(path).st_ino


def test_join_the_mount_namespace_of_a_container(lab: Lab) -> None:
    """The path of a root file system means nothing in a container."""
    first = lab.sleeper("p1")
    with pytest.raises(SetupError) as raised:
        lab.sleeper("p2", linux={"namespaces": namespaces(*(n for n in NAMESPACES if n != "mount"),
                                                          mount=f"/proc/{first}/ns/mnt")})
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("mount root", "ENOENT", "$.root.path")
    assert not lab.runtime.container_exists("p2")


@pytest.mark.conformance(30)
def test_time_offsets(lab: Lab) -> None:
    text = lab.run("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime",
                   linux={"namespaces": namespaces(*NAMESPACES, "time"),
                          "timeOffsets": {"boottime": {"secs": 864000}, "monotonic": {"secs": 1000, "nanosecs": 7}}})
    lines = text.splitlines()
    assert [line.split() for line in lines[:2]] == [["monotonic", "1000", "7"], ["boottime", "864000", "0"]]
    assert 0 <= int(lines[2]) - 864000 - int(float(Path("/proc/uptime").read_text().split()[0])) + 5 <= 10


@pytest.mark.conformance(27)
def test_cgroup_namespace_hides_the_path(lab: Lab) -> None:
    assert "pyruntime" not in lab.run("cat /proc/self/cgroup")


@pytest.mark.conformance(29)
def test_user_namespace(reachable: Lab) -> None:
    script = ("id -u; id -g; cat /proc/self/uid_map; echo x >/dev/null && echo null; head -c4 /dev/urandom | wc -c; "
              "ls /sys/kernel >/dev/null && echo sysfs; grep -c . /proc/mounts >/dev/null && echo proc")
    out = reachable.run(script, **user_namespace()).split()
    assert out == ["0", "0", "0", "100000", "65536", "null", "4", "sysfs", "proc"]
    pid = reachable.sleeper(**user_namespace())
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t" + "\t".join(["100000"] * 4) in status and "Gid:\t" + "\t".join(["200000"] * 4) in status
    assert reachable.exec("id -u; cat /proc/self/gid_map").split() == ["0", "0", "200000", "65536"]
    assert reachable.exec("id -u; id -g", user={"uid": 1000, "gid": 1001}).split() == ["1000", "1001"]


@pytest.mark.conformance(23)
def test_hostname_and_domainname(lab: Lab) -> None:
    assert lab.run("hostname; cat /proc/sys/kernel/domainname", hostname="h.example", domainname="d.example").split() == [
        "h.example", "d.example"]


@pytest.mark.conformance(16)
def test_rlimits(lab: Lab) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
              {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 2**64 - 1}]
    lines = {line[:25].strip(): line[25:].split()[:2] for line in
             lab.run("cat /proc/self/limits", process={"rlimits": limits}).splitlines()}
    assert lines["Max open files"] == ["100", "200"]
    assert lines["Max core file size"] == ["0", "0"]
    assert lines["Max stack size"] == [str(1 << 20), "unlimited"]


def _sets(text: str) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


def _mask(names: list[str]) -> int:
    return sum(1 << CAPABILITY_BITS[name] for name in names)


@pytest.mark.conformance(15)
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("ambient", [True, False])
@pytest.mark.parametrize("how", ["init", "exec"])
def test_capability_sets(lab: Lab, uid: int, ambient: bool, how: str) -> None:
    names = {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
             "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] if ambient else []}
    process = {"user": {"uid": uid, "gid": uid}, "capabilities": names, "noNewPrivileges": True}
    if how == "init":
        seen = _sets(lab.run(["/bin/cat", "/proc/self/status"], process=process))
    else:
        lab.sleeper()
        seen = _sets(lab.exec(["/bin/cat", "/proc/self/status"], **process))
    bounding, inheritable = _mask(names["bounding"]), _mask(names["inheritable"])
    ambient_mask = _mask(names["ambient"])
    # capabilities(7): for uid 0 a program's file has all permitted and inheritable, and its effective bit; no_new_privs
    # does not take from what root keeps of the bounding set
    permitted = bounding | inheritable if uid == 0 else ambient_mask
    assert seen["CapBnd"] == bounding
    assert seen["CapInh"] == inheritable
    assert seen["CapAmb"] == (0 if uid == 0 and not ambient else ambient_mask)
    # with no_new_privs an execution gains nothing beyond the old permitted set
    assert seen["CapPrm"] == (permitted & _mask(names["permitted"]) if uid == 0 else permitted)
    assert seen["CapEff"] == seen["CapPrm"]


@pytest.mark.conformance(15)
@pytest.mark.parametrize("uid", [0, 1000])
def test_no_capabilities(lab: Lab, uid: int) -> None:
    empty: dict[str, list[str]] = {name: [] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")}
    seen = _sets(lab.run(["/bin/cat", "/proc/self/status"], process={"user": {"uid": uid, "gid": uid},
                                                                   "capabilities": empty}))
    assert set(seen.values()) == {0}


@pytest.mark.conformance(15)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_unknown_capability_is_warned_of(lab: Lab, caplog: pytest.LogCaptureFixture, how: str) -> None:
    process = {"capabilities": {"bounding": ["CAP_NOT_YET", "CAP_KILL"]}}
    if how == "exec":
        lab.sleeper()
    with caplog.at_level(logging.WARNING, "pyruntime"):
        command = ["/bin/cat", "/proc/self/status"]
        seen = _sets(lab.run(command, process=process) if how == "init" else lab.exec(command, **process))
    (record,) = [record for record in caplog.records if record.name == "pyruntime"]
    assert record.levelno == logging.WARNING
    where = "config.json" if how == "init" else "container p1"
    assert "CAP_NOT_YET" in record.getMessage() and where in record.getMessage() and "CAP_KILL" not in record.getMessage()
    assert seen["CapBnd"] == _mask(["CAP_KILL"])


@pytest.mark.conformance(15)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_capabilities_that_cannot_be_granted_are_warned_of(lab: Lab, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Each by the set that lacks it; the process runs with the others."""
    process = {"capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
                                "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL", "CAP_SYS_ADMIN"],
                                "ambient": ["CAP_KILL", "CAP_AUDIT_WRITE"]}, "noNewPrivileges": True}
    if how == "exec":
        lab.sleeper()
    with caplog.at_level(logging.WARNING, "pyruntime"):
        command = ["/bin/cat", "/proc/self/status"]
        seen = _sets(lab.run(command, process=process) if how == "init" else lab.exec(command, **process))
    told = [record.getMessage() for record in caplog.records if record.name == "pyruntime"]
    where = "config.json" if how == "init" else "container p1"
    assert [(message.partition(":")[0].rpartition("/")[2], re.findall("CAP_[A-Z_]+", message)) for message in told] == [
        (where, [name]) for name in ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_AUDIT_WRITE")]
    kill = _mask(["CAP_KILL"])
    assert (seen["CapBnd"], seen["CapInh"], seen["CapAmb"]) == (_mask(["CAP_KILL", "CAP_CHOWN"]), kill, kill)


def test_mappings_beside_a_joined_user_namespace(reachable: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """As containerd and CRI-O write them; the namespace has its own, which count."""
    first = reachable.sleeper("p2", **user_namespace())
    other = {name: [{"containerID": 0, "hostID": 5000, "size": 10}] for name in MAPS}
    with caplog.at_level(logging.WARNING, "pyruntime"):
        out = reachable.run("cat /proc/self/uid_map", hostname=None, mounts=default_config()["mounts"][:2], linux={
            "namespaces": namespaces("mount", "pid", user=f"/proc/{first}/ns/user"), **other})
    assert out.split() == ["0", "100000", "65536"]
    (record,) = [record for record in caplog.records if record.name == "pyruntime"]
    assert "config.json" in record.getMessage() and "uidMappings" in record.getMessage()


def test_nothing_is_left_where_a_limit_cannot_be_raised_beside_a_joined_user_namespace(reachable: Lab) -> None:
    """The first process may be about to make its successor by then; the lab looks for children."""
    first = reachable.sleeper("p2", **user_namespace())
    linux = {"namespaces": namespaces("mount", "pid", user=f"/proc/{first}/ns/user")}
    limit = {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**62}
    bundle = reachable.bundle("true", hostname=None, mounts=[], linux=linux, process={"rlimits": [limit]})
    for _ in range(100):
        with pytest.raises(SetupError) as caught:
            reachable.runtime.create_container("p1", bundle, StdioOptions())
        assert (caught.value.step, caught.value.errno_name) == ("raise hard limit", "EPERM")


@pytest.mark.conformance(17)
@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(lab: Lab, value: bool) -> None:
    process = {"noNewPrivileges": value}
    assert lab.run("grep NoNewPrivs /proc/self/status", process=process).split()[1] == str(int(value))
    lab.sleeper()
    assert lab.exec("grep NoNewPrivs /proc/self/status", **process).split()[1] == str(int(value))


@pytest.mark.conformance(14, 17, 49)
def test_sysctl_oom_score_groups_umask(lab: Lab) -> None:
    out = lab.run("cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj; umask; grep Groups /proc/self/status",
                  linux={"sysctl": {"kernel.msgmax": "12345"}},
                  process={"oomScoreAdj": 321, "user": {"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7, 8]}})
    assert out.split() == ["12345", "321", "0027", "Groups:", "7", "8"]


@pytest.mark.conformance(14, 17)
def test_exec_has_its_own_oom_score_groups_and_umask(lab: Lab) -> None:
    lab.sleeper(process={"oomScoreAdj": 100, "user": {"uid": 0, "gid": 0, "umask": 0o77, "additionalGids": [9]}})
    script = "cat /proc/self/oom_score_adj; umask; grep -E '^(Uid|Gid|Groups)' /proc/self/status"
    own = lab.exec(script, oomScoreAdj=321, user={"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7, 8]})
    assert own.split() == ["321", "0027", "Uid:", *["5"] * 4, "Gid:", *["6"] * 4, "Groups:", "7", "8"]
    # and nothing of it is the container's, or the container's it
    assert lab.exec(script).split() == [Path("/proc/self/oom_score_adj").read_text().strip(), "0022", "Uid:", *["0"] * 4, "Gid:", *["0"] * 4,
                                        "Groups:"]


@pytest.mark.conformance(11, 12)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_terminal_in_a_user_namespace(reachable: Lab, how: str) -> None:
    """Of the container's own devpts; its owner is the program's user, its group the terminals' group, of the namespace."""
    changes, terminal = user_namespace(), {"terminal": True, "consoleSize": {"height": 30, "width": 90}}
    script = "tty; stty size; stat -Lc '%t:%T %u %g' $(tty); id -u; echo here >/dev/tty; read line; echo got $line"
    user = {"uid": 7, "gid": 8}
    if how == "init":
        pid = reachable.create(script, process={**terminal, "user": user}, **changes)
        reachable.runtime.start_container("p1")
    else:
        reachable.sleeper(**changes)
        process = {"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": user, **terminal}
        pid = reachable.runtime.exec_process("p1", process, StdioOptions())
    pipes = reachable.runtime.get_stdio_pipes("p1", pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is None
    seen = b""
    while seen.count(b"\n") < 5:
        seen += os.read(pipes.out.fileno(), 4096)
    name, *lines = seen.decode().split("\r\n")
    assert name in ("/dev/pts/0", "/dev/console")
    assert lines == ["30 90", "88:0 7 5", "7", "here", ""]
    os.write(pipes.in_.fileno(), b"word\n")
    assert reachable.read("p1", pid).split("\r\n")[1] == "got word"
    assert reachable.runtime.wait_on_process("p1", pid).exit_code == 0


@pytest.mark.conformance(49)
def test_sysctl_of_the_host_is_refused(lab: Lab) -> None:
    before = Path("/proc/sys/kernel/msgmax").read_text()
    with pytest.raises(Exception, match=r"sysctl|msgmax"):
        lab.create(["true"], linux={"namespaces": namespaces(*(n for n in NAMESPACES if n != "ipc")),
                                    "sysctl": {"kernel.msgmax": "12345"}})
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


def test_home_and_working_directory(lab: Lab) -> None:
    (lab.rootfs / "etc" / "passwd").write_text("root:x:0:0::/root-home:/bin/sh\nuser:x:1000:1000::/user-home:/bin/sh\n")
    assert lab.run("echo $HOME").strip() == "/root-home"
    assert lab.run("echo $HOME", process={"user": {"uid": 1000, "gid": 1000}}).strip() == "/user-home"
    assert lab.run("echo $HOME", process={"env": ["PATH=/bin", "HOME=/set"]}).strip() == "/set"
    assert lab.run("pwd", process={"cwd": "/made/deep"}, root={"readonly": False}).strip() == "/made/deep"
    lab.sleeper()
    assert lab.exec("echo $HOME", user={"uid": 1000, "gid": 1000}).strip() == "/user-home"


CAP_SYS_RESOURCE = 24


@pytest.mark.parametrize("user", [True, False], ids=["user_namespace", "no_user_namespace"])
def test_hard_limit_above_the_callers(reachable: Lab, user: bool) -> None:
    """In a user namespace nobody may raise a hard limit, so the host does; where it may not, that is what the error says."""
    saved = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    above = saved[1] + 4096
    changes = user_namespace() if user else {}
    changes["process"] = {"rlimits": [{"type": "RLIMIT_MSGQUEUE", "soft": 4096, "hard": above}]}
    if read_host().held_capabilities >> CAP_SYS_RESOURCE & 1:
        out = reachable.run("grep msgqueue /proc/self/limits", **changes)
        assert out.split()[3:5] == ["4096", str(above)]
        return
    with pytest.raises(SetupError) as raised:
        reachable.create(["true"], stdio=StdioOptions(), **changes)
    expected = ("raise hard limit", "$.process.rlimits[0].hard") if user else ("set rlimit", "$.process.rlimits[0]")
    assert (raised.value.step, raised.value.json_path, raised.value.errno_name) == (*expected, "EPERM")
    assert not reachable.runtime.container_exists("p1")


def test_limits_that_need_no_raise_in_a_user_namespace(reachable: Lab) -> None:
    """The caller's own limit, and what is below it, needs no right."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    changes = user_namespace()
    changes["process"] = {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": hard, "hard": hard},
                                      {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]}
    limits = reachable.run("cat /proc/self/limits", **changes).splitlines()
    found = {line[:25].strip(): line[25:].split()[:2] for line in limits}
    assert found["Max open files"] == [str(hard)] * 2 and found["Max core file size"] == ["1", "2"]


def test_the_host_raises_before_the_init_sets(reachable: Lab) -> None:
    """prlimit(2) of the host, which is let pass here, is what comes first; without it the init's would be alone and fail."""
    above = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1] + 4096
    changes = user_namespace()
    changes["process"] = {"rlimits": [{"type": "RLIMIT_MSGQUEUE", "soft": 4096, "hard": above}]}
    with pytest.raises(SetupError) as raised:
        Fault("prlimit64", "EIO", {1: resource.RLIMIT_MSGQUEUE, 2: 0}).during(lambda: reachable.create("true", **changes))
    assert (raised.value.step, raised.value.errno_name) == ("raise hard limit", "EIO")


@pytest.fixture
def foreign_namespace() -> Iterator[int]:
    """A process in a mount namespace of its own, which has nothing to do with containers."""
    program = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo in; exec sleep 1000"], stdout=subprocess.PIPE)
    assert program.stdout is not None and program.stdout.readline() == b"in\n"
    yield program.pid
    program.kill()
    program.wait()
    program.stdout.close()


def mounts_of(pid: int) -> list[str]:
    return [line.split(" ", 2)[2] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


@pytest.mark.conformance(28)
def test_mount_namespace_that_is_joined(lab: Lab, foreign_namespace: int) -> None:
    """Its other processes keep their root, and nothing of the container stays in it."""
    before, of_host, link = mounts_of(foreign_namespace), mounts_of(os.getpid()), f"/proc/{foreign_namespace}/ns/mnt"
    pid = lab.sleeper(linux={"namespaces": [*namespaces("pid", "ipc", "uts", "network"), {"type": "mount", "path": link}]})
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(link)
    script = "readlink /proc/self/ns/mnt; cat /etc/passwd | head -1; ls /proc/1/exe >/dev/null && echo proc; (echo x >/dev/null) && pwd"
    found = lab.exec(script).split()
    assert found[0] == os.readlink(link) and found[-2:] == ["proc", "/"]
    assert os.readlink(f"/proc/{foreign_namespace}/root") == "/"
    inside = [line for line in mounts_of(foreign_namespace) if line not in before]
    assert len(inside) > 5 and all(f" {lab.rootfs}" in line for line in inside)
    lab.runtime.delete_container("p1", force=True)
    assert mounts_of(foreign_namespace) == before and mounts_of(os.getpid()) == of_host


def test_failing_in_a_mount_namespace_that_is_joined(lab: Lab, foreign_namespace: int) -> None:
    before = mounts_of(foreign_namespace)
    joined = {"type": "mount", "path": f"/proc/{foreign_namespace}/ns/mnt"}
    with pytest.raises(SetupError):
        lab.create(["true"], linux={"namespaces": [*namespaces("pid", "uts"), joined]}, process={"cwd": "/etc/passwd"})
    assert mounts_of(foreign_namespace) == before


@pytest.mark.conformance(23, 49)
@pytest.mark.parametrize(("kind", "changes"), [
    ("uts", {"hostname": "changed"}), ("uts", {"hostname": None, "domainname": "changed"}),
    ("ipc", {"hostname": None, "sysctl": {"kernel.msgmax": "4321"}}),
    ("network", {"hostname": None, "sysctl": {"net.ipv4.ip_default_ttl": "77"}}), ("mount", {"hostname": None})],
    ids=["hostname", "domainname", "ipc", "network", "mount"])
def test_nothing_is_changed_in_a_namespace_of_the_host(lab: Lab, kind: str, changes: dict[str, Any]) -> None:
    """A path can lead to the namespace that the caller is in, where everything set would be the host's."""
    files = ("/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/msgmax",
             "/proc/sys/net/ipv4/ip_default_ttl", "/proc/self/mountinfo")
    before = [Path(file).read_text() for file in files]
    joined = namespaces(*(name for name in NAMESPACES if name != kind), **{kind: f"/proc/self/ns/{FILES.get(kind, kind)}"})
    linux = {"namespaces": joined, "sysctl": changes.pop("sysctl", None)}
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={key: value for key, value in linux.items() if value}, **changes)
    index = next(i for i, namespace in enumerate(joined) if namespace["type"] == kind)
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == (
        "open namespace", "EPERM", f"$.linux.namespaces[{index}].path")
    assert [Path(file).read_text() for file in files] == before


@pytest.mark.conformance(28)
def test_a_namespace_of_the_host_can_be_joined_unchanged(lab: Lab) -> None:
    joined = namespaces(*(name for name in NAMESPACES if name != "network"), network="/proc/self/ns/net")
    pid = lab.sleeper(linux={"namespaces": joined})
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
