"""What podman's options allow a container and keep from it: capabilities, filters, masks, devices, ids."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine
from podman import RUNTIMES, remove, with_runtime

pytestmark = pytest.mark.privileged
# linux/capability.h
CAP_CHOWN, CAP_NET_ADMIN, CAP_SYS_TIME = 1 << 0, 1 << 12, 1 << 25


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


@pytest.fixture
def subordinate_ids(tmp_path: Path) -> Iterator[range]:
    """Those of the user `containers`, of which podman gives root's containers a part each; in files that are bound over the host's."""
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("containers:300000:65536\n")
    with contextlib.ExitStack() as bound:
        for name in ("subuid", "subgid"):
            subprocess.run(["mount", "--bind", tmp_path / name, f"/etc/{name}"], check=True)
            bound.callback(subprocess.run, ["umount", f"/etc/{name}"], check=True)
        yield range(300000, 365536)


def status(engine: Engine, *options: str) -> dict[str, str]:
    """Of the container's process, from /proc."""
    ended = engine.run("--rm", *options, "box", "cat", "/proc/self/status")
    assert ended.code == 0, ended
    return {name: value.strip() for name, value in (line.split(":", 1) for line in ended.out.splitlines())}


def capabilities(engine: Engine, *options: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in status(engine, *options).items() if name.startswith("Cap")}


def test_capabilities(engine: Engine) -> None:
    whole = capabilities(engine)["CapBnd"]
    assert whole & CAP_CHOWN and not whole & (CAP_NET_ADMIN | CAP_SYS_TIME)
    more = capabilities(engine, "--cap-add=net_admin,sys_time", "--cap-drop=chown")
    assert {name: more[name] for name in ("CapBnd", "CapEff", "CapPrm")} == dict.fromkeys(
        ("CapBnd", "CapEff", "CapPrm"), whole & ~CAP_CHOWN | CAP_NET_ADMIN | CAP_SYS_TIME)
    one = {"CapInh": 0, "CapAmb": 0, "CapBnd": CAP_NET_ADMIN, "CapPrm": CAP_NET_ADMIN, "CapEff": CAP_NET_ADMIN}
    assert capabilities(engine, "--cap-drop=all", "--cap-add=net_admin") == one
    # who is not root has what is asked for by name, also after execve(2)
    assert capabilities(engine, "--cap-drop=all", "--cap-add=net_admin", "-u", "1000") == {name: CAP_NET_ADMIN for name in one}
    ended = engine.run("--rm", "--cap-drop=chown", "box", "sh", "-c", "touch /file; busybox chown 5 /file; stat -c %u /file")
    assert ended.out == "0" and "not permitted" in ended.err, ended


def test_the_callers_groups(engine: Engine) -> None:
    """Kept for who asks for it, of `run` and of `exec`; where they are not mapped they are nobody's."""
    caller = Engine(["setpriv", "--groups=1234", *engine.command], engine.environment, engine.run_options)
    user = "--user=1000:100"
    assert "1234" not in status(caller, user)["Groups"]
    assert status(caller, user, "--group-add=keep-groups")["Groups"] == "1234"
    assert status(caller, "--group-add=keep-groups", "--uidmap=0:200000:5000")["Groups"] == "65534"
    id = caller.succeed("run", "-d", *caller.run_options, "--group-add=keep-groups", "box", "sleep", "1000")
    for groups in ("1234", "77,4321"):
        other = Engine(["setpriv", f"--groups={groups}", *engine.command], engine.environment, [])
        assert other.succeed("exec", user, id, "sh", "-c", "grep Groups: /proc/self/status").split()[1:] == groups.split(",")
    remove(engine, id)


def test_filters(engine: Engine, tmp_path: Path) -> None:
    """Of a file, none, and podman's own; with and without new privileges."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}))
    script = "mkdir /new || ls -d /new; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"
    ended = engine.run("--rm", f"--security-opt=seccomp={profile}", "box", "sh", "-c", script)
    assert "Function not implemented" in ended.err and ended.out.split() == ["NoNewPrivs:", "0", "Seccomp:", "2"], ended
    ended = engine.run("--rm", "--security-opt=no-new-privileges", f"--security-opt=seccomp={profile}", "-u", "1000", "box", "sh", "-c",
                       "mkdir /tmp/new; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status")
    assert "Function not implemented" in ended.err and ended.out.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"], ended
    assert status(engine, "--security-opt=seccomp=unconfined")["Seccomp"] == "0"
    profile.write_text('{"defaultAction": "SCMP_ACT_NONE"}')
    assert engine.run("--rm", f"--security-opt=seccomp={profile}", "box", "true").code == 126


def test_masks(engine: Engine) -> None:
    """What is hidden and read-only, and what is not if it is said."""
    script = ("ls /proc/acpi /sys/firmware; test -c /proc/keys || echo keys; wc -l </proc/interrupts; "
              "head -c 9 /proc/sys/kernel/hostname >/dev/null; echo box >/proc/sys/kernel/hostname && cat /proc/sys/kernel/hostname")
    plain = engine.run("--rm", "--hostname=first", "box", "sh", "-c", script)
    assert plain.code == 1 and "Read-only file system" in plain.err and "keys" not in plain.out, plain
    listed, lines = plain.out.rsplit("\n", 1)
    assert listed.split() == ["/proc/acpi:", "/sys/firmware:"] and int(lines) > 5
    # podman's AppArmor profile, where there is one, allows nothing of it
    opened = engine.run("--rm", "--hostname=first", "--security-opt=apparmor=unconfined", "--security-opt=unmask=/proc/keys:/proc/sys",
                        "--security-opt=mask=/proc/interrupts", "box", "sh", "-c", script)
    assert opened.code == 0 and opened.out.splitlines()[-3:] == ["keys", "0", "box"], opened
    assert opened.out.split()[:2] == ["/proc/acpi:", "/sys/firmware:"]
    whole = engine.run("--rm", "--security-opt=unmask=ALL", "box", "sh", "-c",
                       "grep -cE ' /(proc|sys)/(acpi|firmware|keys|sys|bus) ' /proc/mounts")
    assert whole.out == "0", whole


def test_no_cgroups(engine: Engine) -> None:
    """The container is in those of who monitors it, and ends as any other. Limits are refused, which crun forgets."""
    id = engine.succeed("run", "-d", *engine.run_options, "--cgroups=disabled", "box", "sleep", "1000")
    try:
        pid = int(engine.succeed("inspect", "-f", "{{.State.Pid}}", id))
        monitor = Path(engine.succeed("inspect", "-f", "{{.ConmonPidFile}}", id)).read_text()
        assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{monitor}/cgroup").read_text()
        assert engine.succeed("exec", id, "sh", "-c", "echo $$").isdecimal()
        assert engine("pause", id).code != 0
        assert engine.succeed("inspect", "-f", "{{.State.Status}}", id) == "running"
        assert engine.succeed("stop", "-t", "0", id) == id
        assert engine.succeed("inspect", "-f", "{{.State.ExitCode}}", id) == "137"
    finally:
        remove(engine, id)
    ended = engine.run("--rm", "--cgroups=disabled", "--memory=100m", "box", "true")
    assert (ended.code, "$.linux.resources.memory" in ended.err) == ((0, False) if "crun" in engine.command else (126, True)), ended


def test_devices(engine: Engine) -> None:
    """One of another name, and what may be done with it; one that is not asked for may be made, and not opened."""
    script = ("stat -c '%F %t:%T' /dev/nothing; head -c 4 /dev/nothing | wc -c; (: >/dev/nothing) 2>&1; "
              "busybox mknod /dev/kmsg2 c 1 11; (: </dev/kmsg2) 2>&1; cat /dev/null && echo null")
    ended = engine.run("--rm", "--cap-add=mknod", "--device=/dev/zero:/dev/nothing:r", "box", "sh", "-c", script)
    lines = ended.out.splitlines()
    # /dev/zero is allowed to all, whatever is said of it here
    assert lines[:2] == ["character special file 1:5", "4"] and lines[-1] == "null" and "not permitted" in lines[-2], ended
    for access, expected in (("r", [True, False]), ("rw", [True, True]), ("w", [False, True])):
        script = "(: </dev/log) 2>/dev/null && echo read; (: >/dev/log) 2>/dev/null && echo write"
        ended = engine.run("--rm", "--cap-add=syslog", f"--device=/dev/kmsg:/dev/log:{access}", "box", "sh", "-c", script)
        assert ["read" in ended.out, "write" in ended.out] == expected, (access, ended)
    ended = engine.run("--rm", "--device-cgroup-rule=c 1:11 r", "--cap-add=mknod,syslog", "box", "sh", "-c",
                       "busybox mknod /kmsg c 1 11; (: </kmsg) && echo read; (: >/kmsg) || echo refused")
    assert ended.out.splitlines() == ["read", "refused"], ended


def test_a_device_of_another_name_in_a_user_namespace(engine: Engine) -> None:
    ended = engine.run("--rm", "--uidmap=0:100000:65536", "--device=/dev/zero:/dev/nothing", "--device=/dev/null:/dev/some/where", "box", "sh",
                       "-c", "stat -c '%F %t:%T' /dev/nothing /dev/some/where; head -c 4 /dev/nothing | wc -c")
    assert ended.out.splitlines() == ["character special file 1:5", "character special file 1:3", "4"], ended


@pytest.mark.parametrize("options", [["--uidmap=0:100000:65536"], ["--uidmap=0:100000:65536", "--privileged"],
                                     ["--userns=auto:size=2000"]], ids=["mapped", "privileged", "auto"])
def test_user_namespaces(engine: Engine, options: list[str], subordinate_ids: range) -> None:
    """Root of the container is nobody outside; files of the image are root's, and all of the host's devices are there for who is privileged."""
    id = engine.succeed("run", "-d", *engine.run_options, *options, "box", "sleep", "1000")
    try:
        pid = engine.succeed("inspect", "-f", "{{.State.Pid}}", id)
        inside, outside, size = map(int, Path(f"/proc/{pid}/uid_map").read_text().split())
        expected = (subordinate_ids.start, 2000) if "auto" in options[0] else (100000, 65536)
        assert inside == 0 and size == expected[1] and (outside == expected[0] or "auto" in options[0] and outside in subordinate_ids)
        assert Path(f"/proc/{pid}").stat().st_uid == outside
        script = ("id -u; stat -c %u /etc/passwd /dev/shm /proc/1; readlink /dev/ptmx; touch /tmp/x && stat -c %u /tmp/x; "
                  "echo x >/dev/null && head -c 2 /dev/zero | wc -c; (: <>/dev/ptmx) && echo terminal")
        assert engine.succeed("exec", id, "sh", "-c", script).split() == ["0", "0", "0", "0", "pts/ptmx", "0", "2", "terminal"]
        assert (engine("exec", id, "ls", "/dev/kmsg").code == 0) == ("--privileged" in options)
    finally:
        remove(engine, id)


def test_a_user_namespace_of_another_container(engine: Engine) -> None:
    first = engine.succeed("run", "-d", *engine.run_options, "--uidmap=0:100000:65536", "box", "sleep", "1000")
    try:
        namespace = engine.succeed("exec", first, "readlink", "/proc/self/ns/user")
        ended = engine.run("--rm", f"--userns=container:{first}", "box", "sh", "-c", "readlink /proc/self/ns/user; cat /proc/self/uid_map")
        assert ended.out.split() == [namespace, "0", "100000", "65536"], ended
    finally:
        remove(engine, first)
