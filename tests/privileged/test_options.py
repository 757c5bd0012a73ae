"""Options of single commands on real containers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import TIMEOUT_S, Line, receive
from lab import MAPS, Lab, cgroup_file, is_unified, namespaces

from pyruntime.cgroups import cgroups_of
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config, without_pid_namespace


@pytest.fixture
def below() -> Iterator[list[Path]]:
    """A cgroup `sub` below that of p1 in each hierarchy."""
    found = [Path(cgroup.path, "sub") for cgroup in cgroups_of(read_host(), "/pyruntime/p1")]
    yield found


def test_exec_in_a_cgroup_below(service: Line, below: list[Path]) -> None:
    for path in below:
        path.mkdir()
    service.detach("exec", "--detach", "--cgroup", "sub", "p1", "sleep", "1000")
    pids = {path.joinpath("cgroup.procs").read_text() for path in below}
    assert len(pids) == 1 and pids.pop().strip().isdigit()
    top = service.succeed("exec", "--cgroup", "/", "p1", "sh", "-c", "echo $$; exec cat /proc/self/cgroup")
    assert "/sub" not in top
    for wrong, said in (("..", "bad sub cgroup path '..'"), ("sub/../../p2", "bad sub cgroup path"),
                        ("nothing:sub", "unknown controller 'nothing'"),
                        ("none", "error adding pid to cgroup: open "), ("none", "ENOENT: no such file or directory")):
        assert said in service.fail("exec", "--cgroup", wrong, "p1", "true", code=255)


@pytest.mark.skipif("is_unified()", reason="cgroup v2 has one hierarchy")
def test_exec_in_a_cgroup_of_one_controller(service: Line, below: list[Path]) -> None:
    cgroup = cgroup_file("memory", "sub", "")
    cgroup.mkdir()
    service.detach("exec", "--detach", "--cgroup", "memory:sub", "p1", "sleep", "1000")
    (pid,) = (cgroup / "cgroup.procs").read_text().split()
    assert pid in cgroup_file("pids", "cgroup.procs", "").read_text().split()


def test_exec_in_a_paused_container(service: Line) -> None:
    service.succeed("pause", "p1")
    assert "cannot exec in a paused container" in service.fail("exec", "p1", "true", code=255)
    with subprocess.Popen(service.arguments("exec", "--ignore-paused", "p1", "echo", "went on"), stdout=subprocess.PIPE, text=True) as waiting:
        # it is there, and stopped
        pids = cgroup_file("freezer", "cgroup.procs", "cgroup.procs")
        while len(pids.read_text().split()) < 2:
            assert waiting.poll() is None
        assert waiting.stdout is not None and not select.select([waiting.stdout], [], [], 0)[0]
        service.succeed("resume", "p1")
        assert waiting.communicate(timeout=TIMEOUT_S)[0] == "went on\n" and waiting.returncode == 0


@pytest.mark.parametrize("command", ["create", "exec"])
def test_pidfd_socket(line: Line, command: str) -> None:
    path = str(line.lab.directory / "pidfd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        bundle = line.lab.bundle(["/bin/sleep", "1000"])
        line.detach("create", "--bundle", bundle, *(["--pidfd-socket", path] if command == "create" else []), "p1")
        line.succeed("start", "p1")
        if command == "exec":
            line.detach("exec", "--detach", "--pidfd-socket", path, "p1", "sleep", "1000")
        _, pidfd = receive(listener)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    assert line.status() == ("stopped" if command == "create" else "running")
    os.close(pidfd)
    line.succeed("delete", "--force", "p1")
    assert "connect to pidfd socket" in line.fail("run", "--bundle", bundle, "--pidfd-socket", f"{path}/none", "p1")
    assert line.succeed("list", "-q") == ""


def test_exec_adds_ambient_capabilities_that_are_inheritable_already(line: Line) -> None:
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    sets["inheritable"] = sets["bounding"] = ["CAP_CHOWN", "CAP_SYSLOG"]
    line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"], process={"capabilities": sets}), "p1")

    def shown(*options: str) -> dict[str, int]:
        text = line.succeed("exec", *options, "p1", "grep", "^Cap", "/proc/self/status")
        return {name: int(value, 16) for name, value in (row.split(":\t") for row in text.splitlines())}

    before, syslog, kill = shown(), shown("--cap", "CAP_SYSLOG"), shown("--cap", "CAP_KILL")
    assert before["CapAmb"] == 1 and syslog["CapAmb"] == 1 | 1 << 34 and kill["CapAmb"] == 1
    assert before["CapInh"] == syslog["CapInh"] == kill["CapInh"] and kill["CapEff"] == 1 | 1 << 5
    line.succeed("delete", "--force", "p1")


def test_update(service: Line) -> None:
    service.succeed("update", "p1", "--memory", "50M", "--pids-limit", "12", "--cpu-share", "200")
    assert cgroup_file("memory", "memory.limit_in_bytes", "memory.max").read_text() == f"{50 << 20}\n"
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == "12\n"
    service.succeed("update", "--pids-limit", "-1", "p1")
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == "max\n"
    assert "$.pids.limit" in service.fail("update", "--pids-limit", str(2**70), "p1")


@pytest.mark.conformance(35)
def test_frozen_cgroup(line: Line) -> None:
    """What would enter it would stop, and wait for whoever has frozen it."""
    cgroup = cgroup_file("freezer", "", "", "p2")
    cgroup.mkdir(parents=True)
    (cgroup / ("cgroup.freeze" if is_unified() else "freezer.state")).write_text("1" if is_unified() else "FROZEN")
    try:
        bundle = line.lab.bundle(["/bin/true"], linux={"cgroupsPath": "/pyruntime/p2"})
        for _ in range(2):
            assert "container's cgroup unexpectedly frozen, or one above it: EBUSY" in line.fail("create", "--bundle", bundle, "p1")
    finally:
        cgroup.rmdir()
    line.succeed("run", "--bundle", bundle, "p1")


def test_statistics(service: Line) -> None:
    event = json.loads(service.succeed("events", "--stats", "p1"))
    assert (event["type"], event["id"]) == ("stats", "p1")
    data = event["data"]
    assert data["pids"]["current"] == 1 and data["memory"]["usage"]["usage"] > 0 and data["cpu"]["usage"]["total"] > 0
    service.succeed("kill", "p1", "KILL")
    assert "cannot count container 'p1'" in service.fail("events", "--stats", "p1")
    assert "cannot watch container 'p1'" in service.fail("events", "p1")


def test_events(line: Line) -> None:
    """Until the container ends; that its memory ran out as soon as it does."""
    script = "read line; dd if=/dev/zero of=/dev/shm/x bs=1M count=60; exec sleep 1000"
    limits = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    fifo = line.lab.directory / "go"
    os.mkfifo(fifo)
    go = os.open(fifo, os.O_RDWR)
    bundle = line.lab.bundle(script, linux={"resources": limits})
    with open(fifo) as stdin:
        subprocess.run(line.arguments("run", "--detach", "--bundle", bundle, "p1"), stdin=stdin, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S)
    with subprocess.Popen(line.arguments("events", "--interval", "200ms", "p1"), stdout=subprocess.PIPE, text=True) as told:
        assert told.stdout is not None
        assert json.loads(told.stdout.readline())["type"] == "stats" and json.loads(told.stdout.readline())["type"] == "stats"
        os.write(go, b"\n")
        while (event := json.loads(told.stdout.readline()))["type"] == "stats":
            assert event["id"] == "p1"
        assert event == {"type": "oom", "id": "p1"}
        line.succeed("delete", "--force", "p1")
        rest = told.communicate(timeout=TIMEOUT_S)[0]
        assert told.returncode == 0 and all(json.loads(text)["id"] == "p1" for text in rest.splitlines())
    os.close(go)


def test_output_of_a_terminal_in_a_file(line: Line) -> None:
    """As the program wrote it."""
    bundle = line.lab.bundle("echo a; echo b", process={"terminal": True})
    assert line("run", "--bundle", bundle, "p1").stdout == "a\nb\n"


@pytest.mark.conformance(13)
@pytest.mark.parametrize("env", [["HOME="], ["HOME=/x", "HOME="]])
def test_an_empty_home_is_none(line: Line, env: list[str]) -> None:
    bundle = line.lab.bundle(["/bin/env"], process={"env": ["PATH=/bin", "A=1", *env, "A=2"]})
    shown = line.succeed("run", "--bundle", bundle, "p1").splitlines()
    assert sorted(shown) == ["A=2", "HOME=/root", "PATH=/bin"] or sorted(shown) == ["A=2", "HOME=/", "PATH=/bin"]


@pytest.mark.conformance(59)
@pytest.mark.parametrize("has_ended", [False, True])
def test_kill_where_the_pid_namespace_is_shared(line: Line, has_ended: bool) -> None:
    """The rest ends too, also when its init has ended before."""
    line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"], linux=without_pid_namespace()), "p1")
    line.detach("exec", "--detach", "p1", "sleep", "1000")
    init, other = json.loads(line.succeed("ps", "--format", "json", "p1"))
    pidfds = [os.pidfd_open(pid) for pid in (init, other)]
    if has_ended:
        signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
        assert select.select(pidfds[:1], [], [], TIMEOUT_S)[0] and line.status() == "stopped"
        assert line.fail("kill", "p1", "TERM").endswith("container not running: ESRCH: no such process")
    line.succeed("kill", "p1", "KILL")
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], TIMEOUT_S)[0]
        os.close(pidfd)
    assert line.fail("kill", "p1", "KILL").endswith("container not running: ESRCH: no such process")
    line.succeed("delete", "p1")


@pytest.mark.conformance(24)
def test_a_hook_at_the_start_has_the_processes_environment(line: Line) -> None:
    """If it states none."""
    show = {"path": "/bin/sh", "args": ["sh", "-c", "echo $A $B >&2; exit 3"]}
    process = {"env": ["PATH=/bin", "A=1", "A=2"]}
    bundle = line.lab.bundle(["/bin/true"], process=process, hooks={"startContainer": [show]})
    assert line.fail("run", "--bundle", bundle, "p1").endswith("exited with 3: 2")
    bundle = line.lab.bundle(["/bin/true"], process=process, hooks={"startContainer": [{**show, "env": ["B=5"]}]})
    assert line.fail("run", "--bundle", bundle, "p1").endswith("exited with 3: 5")
    # also what the process has though it is not listed
    (line.lab.rootfs / "etc" / "passwd").write_text("some:x:7:7::/home/some:/bin/sh\n")
    show["args"] = ["sh", "-c", "echo ${HOME-none} >&2; exit 3"]
    for env, own, home in ((["A=1"], [], "/home/some"), (["HOME=/other"], [], "/other"), ([], ["B=5"], "none")):
        hooks = {"startContainer": [{**show, **({"env": own} if own else {})}]}
        bundle = line.lab.bundle(["/bin/true"], process={"env": ["PATH=/bin", *env], "user": {"uid": 7, "gid": 7}}, hooks=hooks)
        assert line.fail("run", "--bundle", bundle, "p1").endswith(f"exited with 3: {home}")


def test_list_of_a_root_that_does_not_exist(line: Line) -> None:
    ended = subprocess.run([line.arguments()[0], "--root", f"{line.lab.directory}/none", "list"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "ENOENT" in ended.stderr and ended.stdout == ""


@pytest.mark.conformance(28)
def test_joined_namespaces_that_the_joined_user_namespace_does_not_own(reachable: Lab) -> None:
    """As in a pod of podman's, whose network was made before its user namespace."""
    kinds = ("pid", "mount", "ipc", "uts")
    mounts = [mount for mount in default_config()["mounts"] if mount["type"] not in ("sysfs", "cgroup")]
    first = reachable.sleeper("p1", linux={"namespaces": namespaces(*kinds, "user"), **MAPS}, mounts=mounts)
    with subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "echo made; exec sleep 1000"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"made\n"
        paths = {"user": f"/proc/{first}/ns/user", "network": f"/proc/{other.pid}/ns/net"}
        second = reachable.sleeper("p2", linux={"namespaces": namespaces(*kinds, **paths)}, mounts=mounts)
        for pid, kind in ((first, "user"), (other.pid, "net")):
            assert os.readlink(f"/proc/{second}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}")
        assert os.readlink(f"/proc/{other.pid}/ns/net") in reachable.exec("readlink /proc/self/ns/net", "p2")
        reachable.runtime.delete_container("p2", force=True)
        other.kill()
