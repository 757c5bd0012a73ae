"""The smaller fields of `process` and `linux`, as a container's processes see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, namespaces
from probing import Answers, Probe

from pyruntime import StdioOptions
from pyruntime.errors import InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged

INFINITY = 2**64 - 1
FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "user": "user", "time": "time"}


def ended(lab: Lab) -> None:
    lab.runtime.delete_container("p1", force=True)


# limits


@pytest.mark.conformance(16)
def test_every_limit(lab: Lab, probe: Probe) -> None:
    """All 16, each with values of its own; of a further process the container's, or its own."""
    held = probe.run("rlimits", process={"rlimits": []}).rlimits
    assert len(held) == 16
    wanted = {name: (hard // 2, max(hard - 1, 0)) if hard != INFINITY else (2**40 + i, 2**41 + i)
              for i, (name, (_, hard)) in enumerate(held.items())}
    limits = [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()]
    assert probe.run("rlimits", process={"rlimits": limits}).rlimits == wanted
    lab.sleeper(process={"rlimits": limits})
    assert probe.exec("rlimits").rlimits == wanted
    own = probe.exec("rlimits", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 30}]).rlimits
    assert own == {**held, "RLIMIT_NOFILE": (20, 30)}


@pytest.mark.conformance(16)
@pytest.mark.parametrize(("limits", "place"), [
    ([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}], "rlimits[1].type"),
    ([{"type": "RLIMIT_NONE", "soft": 0, "hard": 0}], "rlimits[0].type"), ([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}], "rlimits[0].soft"),
    ([{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64}], "rlimits[0].hard"),
], ids=["twice", "unknown", "above the hard one", "too large"])
def test_limits_that_are_none(lab: Lab, limits: list[dict[str, Any]], place: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", process={"rlimits": limits})
    assert raised.value.json_path == f"$.process.{place}" and not lab.runtime.container_exists("p1")
    lab.sleeper()
    with pytest.raises(InvalidBundleError) as raised:
        lab.exec("true", rlimits=limits)
    assert raised.value.json_path == f"$.{place}"


# identity


@pytest.mark.conformance(14)
@pytest.mark.parametrize("umask", [None, 0, 0o77, 0o777])
def test_user(lab: Lab, probe: Probe, umask: int | None) -> None:
    """Numbers, whatever the image's passwd calls by them."""
    (lab.rootfs / "etc" / "passwd").write_text("1000:x:0:0::/:/bin/sh\n")
    (lab.rootfs / "etc" / "group").write_text("1001:x:0:\n")
    user = {"uid": 1000, "gid": 1001, "additionalGids": [1001, 7, 9, 2**32 - 2], **({"umask": umask} if umask is not None else {})}
    lab.sleeper()
    for found in (probe.exec("ids", "umask", user=user), probe.run("ids", "umask", id="p2", process={"user": user})):
        assert (found.ids.uid, found.ids.gid, sorted(found.ids.groups)) == ((1000,) * 4, (1001,) * 4, [7, 9, 1001, 2**32 - 2])
        assert found.number("umask") == (0o22 if umask is None else umask)
    # nothing is had of the first process's, or of the caller's
    assert probe.exec("ids").ids.groups == []


@pytest.mark.conformance(17)
@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(lab: Lab, probe: Probe, value: bool) -> None:
    lab.sleeper(process={"noNewPrivileges": not value})
    for found in (probe.exec("no_new_privs", noNewPrivileges=value), probe.run("no_new_privs", id="p2", process={"noNewPrivileges": value})):
        assert found.number("no_new_privs") == int(value)


@pytest.mark.conformance(17)
@pytest.mark.parametrize("given", [None, 0, 300, 1000])
def test_oom_score_adj(lab: Lab, probe: Probe, given: int | None) -> None:
    """Of a caller that has another one: 0 is a value, and without one it is the caller's."""
    process = {} if given is None else {"oomScoreAdj": given}
    bundle = lab.bundle(["/bin/probe", "oom_score_adj"], process=process)
    further = {"args": ["/bin/probe", "oom_score_adj"], "cwd": "/", **process}
    script = """
import json, sys
from pyruntime import NativeRuntime, StdioOptions
root, bundle, further = sys.argv[1:]
open("/proc/self/oom_score_adj", "w").write("200")
runtime = NativeRuntime(root)
out = StdioOptions(create_out=True)
pid = runtime.create_container("p2", bundle, out)
runtime.start_container("p2")
print(runtime.get_stdio_pipes("p2", pid).out.read().decode())
pid = runtime.exec_process("p1", json.loads(further), out)
print(runtime.get_stdio_pipes("p1", pid).out.read().decode())
runtime.wait_on_process("p1", pid)
runtime.wait_on_container("p2")
runtime.delete_container("p2")
"""
    lab.sleeper()
    ran = subprocess.run([sys.executable, "-c", script, str(lab.root), bundle, json.dumps(further)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    expected = 200 if given is None else given
    assert [Answers(line).number("oom_score_adj") for line in ran.stdout.split()] == [expected, expected]


@pytest.mark.conformance(19, 54)
@pytest.mark.skipif(read_host().has_selinux, reason="this host has SELinux: labels are not refused")
def test_labels_without_selinux(lab: Lab) -> None:
    for changes, json_path in (({"process": {"selinuxLabel": "a:b:c:s0"}}, "$.process.selinuxLabel"),
                               ({"linux": {"mountLabel": "a:b:c:s0"}}, "$.linux.mountLabel")):
        with pytest.raises(UnsupportedFieldError) as raised:
            lab.create("true", **changes)
        assert raised.value.json_path == json_path and not lab.runtime.container_exists("p1")
    lab.sleeper()
    with pytest.raises(UnsupportedFieldError) as raised:
        lab.exec("true", selinuxLabel="a:b:c:s0")
    assert raised.value.json_path == "$.selinuxLabel"


# the program


@pytest.mark.conformance(13)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_programs_are_found_as_execvp_finds_them(lab: Lab, how: str) -> None:
    for directory, mode in (("closed", 0o644), ("open", 0o755), ("here", 0o755)):
        program = lab.rootfs / directory / "tool"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {directory} $#\n")
        program.chmod(mode)
    (lab.rootfs / "bin" / "tool").symlink_to("/none")

    def run(program: str, path: str | None, cwd: str = "/") -> str:
        args, process = [program, "", "two words"], {"cwd": cwd, "env": [] if path is None else [f"PATH={path}"]}
        return (lab.run(args, process=process) if how == "init" else lab.exec(args, **process)).strip()

    if how == "exec":
        lab.sleeper()
    # on where a file may not be executed, or is a link to nothing, or the directory is none
    assert run("tool", "/bin:/closed:/etc/passwd:/open") == "open 2"
    # an empty part is the working directory
    assert run("tool", "/closed:", "/here") == run("tool", ":/open", "/here") == "here 2"
    assert run("./tool", "/open", "/here") == run("../here/tool", "/open", "/here") == "here 2"
    for program, path, errno_name in (("tool", "/bin:/closed", "EACCES"), ("tool", "/bin", "ENOENT"), ("tool", None, "ENOENT"),
                                      ("", "/bin", "ENOENT")):
        with pytest.raises(SetupError) as raised:
            run(program, path)
        assert (raised.value.step, raised.value.errno_name) == ("execute program", errno_name), (program, path)
        if how == "init":
            assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(13)
@pytest.mark.parametrize(("passwd", "home"), [
    ("root:x:0:0::/root:/bin/sh\n7:x:9:9::/nine:\nseven:x:7:7::/home/7:/bin/sh", "/home/7"), ("7:x:0:0::/zero:/bin/sh\n", "/"),
    ("seven:x:07:7::/octal:/bin/sh\n", "/octal"), ("seven:x:7:7::relative:/bin/sh\n", "relative"), ("seven:x:7:7::\n", "/"), ("", "/"),
    (None, "/"),
])
def test_home_is_that_of_the_number(lab: Lab, probe: Probe, passwd: str | None, home: str) -> None:
    """In the image's file; a name never stands for an id."""
    file = lab.rootfs / "etc" / "passwd"
    file.unlink()
    if passwd is not None:
        file.write_text(passwd)
    user = {"uid": 7, "gid": 7}
    assert probe.run("environment", process={"user": user, "env": ["A=1"]}).environment == ["A=1", f"HOME={home}"]
    lab.sleeper()
    assert probe.exec("environment", user=user, env=[]).environment == [f"HOME={home}"]
    assert probe.exec("environment", user=user, env=["HOME="]).environment == [f"HOME={home}"]


@pytest.mark.conformance(13)
def test_working_directory(lab: Lab, probe: Probe) -> None:
    """The first process's is made where it is missing; a further process's is not."""
    assert probe.run("cwd", process={"cwd": "/made/deep"}, root={"readonly": False}).text("cwd") == "/made/deep"
    lab.sleeper()
    assert probe.exec("cwd", cwd="/tmp/..//made/./deep").text("cwd") == "/made/deep"
    for cwd, errno_name in (("/made/none", "ENOENT"), ("/bin/busybox", "ENOTDIR")):
        with pytest.raises(SetupError) as raised:
            probe.exec("cwd", cwd=cwd)
        assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("change directory", errno_name, "$.cwd")
    with pytest.raises(InvalidBundleError) as invalid:
        probe.exec("cwd", cwd="made")
    assert invalid.value.json_path == "$.cwd"


# the terminal


@pytest.mark.conformance(12)
@pytest.mark.parametrize("size", [None, (1, 1), (65535, 65535), (30, 90)])
def test_console_size(lab: Lab, probe: Probe, size: tuple[int, int] | None) -> None:
    """Height and width; without a terminal nothing comes of it."""
    given = {} if size is None else {"consoleSize": {"height": size[0], "width": size[1]}}
    lab.sleeper()
    terminal = {"terminal": True, **given}
    for found in (probe.exec("terminal", stdio=StdioOptions(), **terminal),
                  probe.run("terminal", id="p2", stdio=StdioOptions(), process=terminal)):
        assert ((found.terminal.height, found.terminal.width), found.terminal.controls) == (size or (0, 0), True)
    for found in (probe.exec("terminal", **given), probe.run("terminal", id="p2", process=given)):
        assert found.failure("terminal") == "ENOTTY"


# names


@pytest.mark.conformance(23)
@pytest.mark.parametrize("name", ["a", "x" * 64, "h.example", "größe"])
def test_names_of_the_host(lab: Lab, probe: Probe, name: str) -> None:
    own = os.uname().nodename
    lab.sleeper(hostname=name, domainname=name[::-1])
    found = probe.exec("uname").uname
    assert (found.hostname.encode("latin-1").decode(), found.domainname.encode("latin-1").decode()) == (name, name[::-1])
    assert os.uname().nodename == own


@pytest.mark.conformance(23)
@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_names_that_are_none(lab: Lab, field: str) -> None:
    for changes in ({field: "x" * 65}, {"hostname": None, field: "x", "linux": {"namespaces": namespaces("mount", "pid")}}):
        with pytest.raises(InvalidBundleError) as raised:
            lab.create("true", **changes)
        assert raised.value.json_path == f"$.{field}"


# namespaces


@pytest.mark.conformance(27)
def test_a_further_process_is_in_every_namespace_of_the_container(reachable: Lab, probe: Probe) -> None:
    reachable.sleeper(linux={"namespaces": namespaces(*FILES), **MAPS})
    questions = ("namespaces", "process")
    found, host = probe.exec(*questions).namespaces, {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in FILES.values()}
    ended(reachable)
    first = probe.run(*questions, linux={"namespaces": namespaces(*FILES), **MAPS})
    for name in FILES.values():
        assert host[name] not in (found[name], first.namespaces[name]), name
    assert first.process.pid == 1


@pytest.mark.conformance(28)
def test_every_namespace_of_another_container_is_joined(reachable: Lab, probe: Probe) -> None:
    """But for its mount namespace, where the path of a root file system means nothing."""
    linux = {"namespaces": namespaces(*FILES), **MAPS}
    first = reachable.sleeper("p2", linux=linux, hostname="shared")
    paths = {kind: f"/proc/{first}/ns/{name}" for kind, name in FILES.items() if kind != "mount"}
    wanted = {name: os.stat(f"/proc/{first}/ns/{name}").st_ino for kind, name in FILES.items() if kind != "mount"}
    joined = {"namespaces": namespaces("mount", **paths)}
    found = probe.run("namespaces", "uname", linux=joined, hostname=None)
    assert {name: found.namespaces[name] for name in wanted} == wanted and found.uname.hostname == "shared"
    reachable.sleeper(linux=joined, hostname=None)
    found = probe.exec("namespaces")
    assert {name: found.namespaces[name] for name in wanted} == wanted


@pytest.mark.conformance(28)
@pytest.mark.parametrize("kind", FILES)
def test_a_path_of_another_type(lab: Lab, kind: str) -> None:
    other = "uts" if kind != "uts" else "ipc"
    before = HostSnapshot.take(lab.root)
    kinds = [*(name for name in NAMESPACES if name != kind)]
    for path, said in ((f"/proc/self/ns/{FILES[other]}", "of another type"), ("/dev/null", "not a namespace"), ("/proc/self/ns", None)):
        with pytest.raises(SetupError) as raised:
            lab.create("true", linux={"namespaces": namespaces(*kinds, **{kind: path})}, hostname=None)
        error = raised.value
        assert (error.step, error.path, error.json_path) == ("open namespace", path, f"$.linux.namespaces[{len(kinds)}].path")
        assert error.errno_name == "EINVAL" and (said or "not a namespace") in error.detail
    assert HostSnapshot.take(lab.root).differences(before) == []


@pytest.mark.conformance(28)
@pytest.mark.parametrize("kind", FILES)
def test_a_type_that_is_given_twice(lab: Lab, kind: str) -> None:
    kinds = [name for name in NAMESPACES if name != kind]
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", linux={"namespaces": namespaces(*kinds, kind, **{kind: f"/proc/self/ns/{FILES[kind]}"}), **MAPS}, hostname=None)
    assert raised.value.json_path == f"$.linux.namespaces[{len(kinds) + 1}].type"


# clocks


@pytest.mark.conformance(30)
@pytest.mark.parametrize("user", [False, True], ids=["no user namespace", "user namespace"])
def test_clocks_are_shifted_for_every_process(reachable: Lab, probe: Probe, user: bool) -> None:
    """Also of a container that joins the namespace; those who join set nothing."""
    new = {"namespaces": namespaces(*NAMESPACES, "time", *(["user"] if user else [])), **(MAPS if user else {})}
    offsets = {"monotonic": {"secs": 5000, "nanosecs": 999_999_999}, "boottime": {"secs": 900_000}}
    pid = reachable.sleeper(linux={**new, "timeOffsets": offsets})
    joined = {"namespaces": namespaces("mount", "pid", time=f"/proc/{pid}/ns/time", **({"user": f"/proc/{pid}/ns/user"} if user else {}))}
    questions = ("clocks", "time_offsets", "namespaces")
    answers = [probe.exec(*questions)]
    with pytest.raises(InvalidBundleError) as raised:
        reachable.create("true", "p2", linux={**joined, "timeOffsets": offsets}, hostname=None)
    assert raised.value.json_path == "$.linux.timeOffsets"
    answers.append(probe.run(*questions, id="p2", linux=joined, hostname=None, mounts=default_config()["mounts"][:2]))
    ended(reachable)
    answers.append(probe.run(*questions, linux={**new, "timeOffsets": offsets}))
    monotonic, boottime = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for found in answers:
        assert 4900 < (found.clocks.monotonic - monotonic) / 1e9 <= 5001
        assert 899_900 < (found.clocks.boottime - boottime) / 1e9 <= 900_001
        assert [line.split() for line in found.text("time_offsets").splitlines()] == [
            ["monotonic", "5000", "999999999"], ["boottime", "900000", "0"]]


@pytest.mark.conformance(30)
def test_clocks_of_a_new_namespace_in_a_user_namespace_that_is_joined(reachable: Lab, probe: Probe) -> None:
    first = reachable.sleeper("p2", linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    linux = {"namespaces": namespaces("mount", "pid", "time", user=f"/proc/{first}/ns/user"), "timeOffsets": {"boottime": {"secs": 900_000}}}
    found = probe.run("time_offsets", "ids", linux=linux, hostname=None, mounts=default_config()["mounts"][:2])
    assert [line.split() for line in found.text("time_offsets").splitlines()] == [["monotonic", "0", "0"], ["boottime", "900000", "0"]]


@pytest.mark.conformance(30)
def test_a_time_namespace_without_offsets(lab: Lab, probe: Probe) -> None:
    found = probe.run("namespaces", "time_offsets", linux={"namespaces": namespaces(*NAMESPACES, "time")})
    assert found.namespaces["time"] != os.stat("/proc/self/ns/time").st_ino
    assert [line.split() for line in found.text("time_offsets").splitlines()] == [["monotonic", "0", "0"], ["boottime", "0", "0"]]


# kernel parameters


@pytest.mark.conformance(49)
def test_kernel_parameters(lab: Lab, probe: Probe) -> None:
    """With dots and with slashes, of every namespace that has some."""
    sysctl = {"kernel.shmmni": "111", "kernel/msgmni": "222", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "33", "fs/mqueue/queues_max": "44",
              "net.ipv4.ip_default_ttl": "55", "net/ipv4/conf/lo/rp_filter": "2", "net.ipv6.conf.lo.hop_limit": "66", "kernel.domainname": "d"}
    if not Path("/proc/sys/net/ipv6").exists():
        del sysctl["net.ipv6.conf.lo.hop_limit"]
    files = {name: "/proc/sys/" + name.replace(".", "/") for name in sysctl}
    before = {file: Path(file).read_text() for file in files.values() if Path(file).exists()}
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    lab.sleeper(linux={"sysctl": sysctl}, mounts=mounts)
    found = probe.exec(*(f"file:{file}" for file in files.values()))
    assert {name: " ".join(found.text(f"file:{file}").split()) for name, file in files.items()} == sysctl
    assert {file: Path(file).read_text() for file in before} == before


@pytest.mark.conformance(49)
def test_kernel_parameters_of_a_user_namespace(reachable: Lab, probe: Probe) -> None:
    sysctl = {"user.max_net_namespaces": "17", "user/max_uts_namespaces": "18"}
    before = Path("/proc/sys/user/max_net_namespaces").read_text()
    linux = {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS, "sysctl": sysctl}
    found = probe.run("file:/proc/sys/user/max_net_namespaces", "file:/proc/sys/user/max_uts_namespaces", linux=linux)
    assert [found.text(f"file:/proc/sys/user/max_{kind}_namespaces") for kind in ("net", "uts")] == ["17", "18"]
    assert Path("/proc/sys/user/max_net_namespaces").read_text() == before


@pytest.mark.conformance(49)
@pytest.mark.parametrize(("changes", "key"), [
    ({}, "kernel.core_pattern"), ({}, "kernel/core_pattern"), ({}, "vm.overcommit_memory"), ({}, "kernel.hostname"),
    ({}, "user.max_net_namespaces"), ({"domainname": "other"}, "kernel.domainname"), ({}, "net/../kernel/core_pattern"),
])
def test_kernel_parameters_that_are_refused(lab: Lab, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", linux={"sysctl": {key: "1"}}, **changes)
    assert raised.value.json_path == f'$.linux.sysctl["{key}"]' and not lab.runtime.container_exists("p1")
