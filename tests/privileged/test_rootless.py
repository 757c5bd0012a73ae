"""A user without privileges makes containers: in Python and by the command, with its own id and with ranges; what it is told where it
cannot, and that it gains nothing."""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from users import COMMAND, FIRST_ID, GID, IDS, NAME, RANGES, UID, User

from pyruntime.host import read_host
from pyruntime.spec.default_config import default_config, rootless_config

pytestmark = pytest.mark.privileged

LIFE = """
pid = rt.create_container("c1", bundle, StdioOptions(create_out=True))
states = [rt.get_container_state("c1").status]
rt.start_container("c1")
states.append(rt.get_container_state("c1").status)
made = rt.exec_process("c1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
processes = []
while "sleep" not in processes:  # the shell's child is a shell at first
    processes = sorted(p.command[0] for p in rt.get_all_container_processes("c1"))
text = run("id -u; id -g; cat /proc/self/oom_score_adj", oomScoreAdj=777)
rt.kill_process("c1", made, signal.SIGKILL)
how = rt.wait_on_process("c1", made).signal
listed = [state.id for state in rt.list_container_states()]
rt.kill_container("c1", signal.SIGKILL)
ended = rt.wait_on_container("c1").signal
out = read("c1", pid)
states.append(rt.get_container_state("c1").status)
rt.delete_container("c1")
print(json.dumps([states, processes, text.split(), how, listed, ended, out.split(), rt.container_exists("c1")]))
"""


@pytest.mark.conformance(29, 31, 56, 57, 58, 59, 60)
def test_life_of_a_container(user: User) -> None:
    bundle = user.bundle("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups /proc/self/oom_score_adj; sleep 1000 & wait",
                         process={"oomScoreAdj": 500})
    states, processes, text, how, listed, ended, out, exists = json.loads(user.python(LIFE, bundle))
    assert states == ["created", "running", "stopped"]
    assert processes == ["/bin/sh", "/bin/sleep", "sleep"]  # though there is no cgroup that tells
    assert text == ["0", "0", "777"] and (how, ended, listed, exists) == (9, 9, ["c1"], False)
    assert out == ["0", str(UID), "1", "0", str(GID), "1", "deny", "500"]


@pytest.mark.conformance(31)
def test_devices_are_the_hosts(user: User) -> None:
    script = "echo x >/dev/null && head -c4 /dev/urandom | wc -c; stat -c '%F %t:%T' /dev/null; echo no >/dev/full || echo full"
    lines = user.command("run", "-b", user.bundle(script), "c1").stdout.splitlines()
    assert lines == ["4", "character special file 1:3", "full"]


def test_life_by_the_command(user: User) -> None:
    bundle = user.bundle("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    user.detach("create", "-b", bundle, "c1")
    assert json.loads(user.succeed("state", "c1"))["status"] == "created"
    assert json.loads(user.succeed("list", "-f", "json"))[0]["id"] == "c1"
    user.succeed("start", "c1")
    assert user.succeed("exec", "c1", "id", "-u") == "0\n"
    assert "/bin/sh" in user.succeed("ps", "c1")
    assert user.command("exec", "c1", "sh", "-c", "exit 5").returncode == 5
    user.succeed("kill", "c1", "KILL")
    _until_stopped(user)
    user.succeed("delete", "c1")
    assert json.loads(user.succeed("list", "-f", "json")) in ([], None)


def _until_stopped(user: User) -> None:
    """Its init is somebody's orphan, and whoever reaps that is no concern of this test."""
    pid = json.loads(user.succeed("state", "c1"))["pid"]
    if pid:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(10000)
        os.close(descriptor)


def test_the_document_runs_as_it_is_written(user: User) -> None:
    """With its terminal, which the command relays."""
    bundle = user.directory / "written"
    bundle.mkdir()
    os.chown(bundle, UID, GID)
    user.succeed("spec", "--rootless", "-b", str(bundle))
    config = json.loads((bundle / "config.json").read_text())
    assert config == rootless_config(UID, GID) and config["process"]["terminal"]
    (bundle / "rootfs").symlink_to(user.rootfs)
    ended = user.command("run", "-b", str(bundle), "c1", stdin=None, input="tty; echo uid $(id -u); exit 3\n")
    assert ended.returncode == 3 and "uid 0" in ended.stdout and "/dev/" in ended.stdout, ended


def test_a_terminal(user: User) -> None:
    script = """
pid = rt.create_container("c1", bundle, StdioOptions())
rt.start_container("c1")
print(read("c1", pid).replace("\\r", ""), end="")
rt.wait_on_container("c1")
rt.delete_container("c1")
"""
    bundle = user.bundle("tty; stty size; stat -Lc %u $(tty)", process={"terminal": True, "consoleSize": {"height": 30, "width": 90}})
    name, *lines = user.python(script, bundle).splitlines()
    assert name in ("/dev/pts/0", "/dev/console") and lines == ["30 90", "0"]


def test_it_cannot_be_paused_without_a_cgroup(user: User) -> None:
    user.detach("run", "--detach", "-b", user.bundle(["/bin/sleep", "1000"]), "c1")
    assert "no cgroup" in user.fail("pause", "c1")
    assert json.loads(user.succeed("state", "c1"))["status"] == "running"
    limits = user.directory / "limits.json"
    limits.write_text('{"pids": {"limit": 7}}')
    assert "$.pids.limit" in user.fail("update", "-r", str(limits), "c1")


def test_limits_that_cannot_hold(user: User) -> None:
    told = user.fail("run", "-b", user.bundle(["/bin/true"], linux={"resources": {"memory": {"limit": 1 << 26}}}), "c1")
    assert "$.linux.resources.memory.limit" in told and "delegated" in told
    assert not (user.root / "c1").exists()


def test_the_root_directory(user: User) -> None:
    user.detach("create", "-b", user.bundle(["/bin/true"]), "c1")
    assert (user.root / "c1" / "state.json").is_file() and stat.S_IMODE(user.root.stat().st_mode) == 0o700
    user.succeed("delete", "--force", "c1")
    told = user.fail("run", "-b", user.bundle(["/bin/true"]), "c1", env={"PATH": "/usr/bin:/bin"})
    assert "XDG_RUNTIME_DIR" in told
    other = user.directory / "other"
    assert user.command("--root", str(other), "run", "-b", user.bundle(["/bin/true"]), "c1", env={"PATH": "/bin"}).returncode == 0
    assert other.is_dir()


def test_additional_groups_need_more_than_the_own_gid(user: User) -> None:
    told = user.fail("run", "-b", user.bundle(["/bin/true"], process={"user": {"additionalGids": [0]}}), "c1")
    assert "$.process.user.additionalGids" in told and "setgroups" in told
    user.detach("run", "--detach", "-b", user.bundle(["/bin/sleep", "1000"]), "c1")
    ended = user.command("exec", "-g", "0", "c1", "true")
    assert ended.returncode == 255 and "additionalGids" in ended.stderr


@pytest.mark.conformance(14, 29)
def test_ranges(user: User) -> None:
    script = ("cat /proc/self/uid_map /proc/self/gid_map; id -G; touch /tmp/x && chown 1000:1001 /tmp/x && stat -c '%u %g' /tmp/x; "
              "grep -c . /proc/self/setgroups; grep allow /proc/self/setgroups")
    bundle = user.bundle(script, root={"readonly": False}, process={"user": {"additionalGids": [5, 6]}, "capabilities": {
        kind: ["CAP_CHOWN"] for kind in ("bounding", "permitted", "effective")}}, linux=RANGES)
    wrapper = user.with_ranges()
    ended = user.command("run", "-b", bundle, "c1", wrapper=wrapper)
    assert (ended.returncode, ended.stderr) == (0, "")
    maps = ["0", str(UID), "1", "1", str(FIRST_ID), str(IDS), "0", str(GID), "1", "1", str(FIRST_ID), str(IDS)]
    assert ended.stdout.split() == [*maps, "0", "5", "6", "1000", "1001", "1", "allow"]
    made = (user.rootfs / "tmp" / "x").stat()
    assert (made.st_uid, made.st_gid) == (FIRST_ID + 999, FIRST_ID + 1000)


@pytest.mark.parametrize("field", ["subuid", "subgid"])
def test_a_range_that_is_not_the_users(user: User, field: str) -> None:
    bundle = user.bundle(["/bin/true"], linux=RANGES)
    wrapper = user.with_ranges(**{field: f"{NAME}:{FIRST_ID}:100\nsomebody:{FIRST_ID}:{IDS}\n"})
    told = user.fail("run", "-b", bundle, "c1", wrapper=wrapper)
    assert f"/etc/{field} has no line" in told and f"`{NAME}:{FIRST_ID}:{IDS}`" in told, told
    assert f"$.linux.{'uid' if field == 'subuid' else 'gid'}Mappings" in told and f"new{field[3:]}map" in told
    assert not (user.root / "c1").exists()


def test_a_user_without_a_name_or_without_new_privileges(user: User) -> None:
    bundle = user.bundle(["/bin/true"], linux=RANGES)
    assert "has no name" in user.fail("run", "-b", bundle, "c1")
    told = user.fail("run", "-b", bundle, "c1", wrapper=(*user.with_ranges(), "--no-new-privs"))
    assert "no_new_privs" in told


def test_a_created_container_without_privileges_is_traceable_by_nobody(user: User) -> None:
    """The kernel tells by the owner of its files: until it waits for its start it was the user's, or its id maps could not be written."""
    user.detach("create", "-b", user.bundle(["/bin/sleep", "1000"], linux={
        "uidMappings": [{"containerID": 1, "hostID": UID, "size": 1}]}, process={"user": {"uid": 1}}), "c1")
    pid = json.loads(user.succeed("state", "c1"))["pid"]
    # no id of the host is root in its namespace, so that what is root's is the host's root's
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0 and os.stat(f"/proc/{pid}").st_uid == UID


def test_nothing_is_gained(user: User) -> None:
    """What root alone may read stays closed, also by a bind mount, and what is set for the host's mounts stays set."""
    secret = user.directory / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    os.chown(secret, 0, 0)
    mount = {"destination": "/tmp", "type": "none", "source": str(user.directory), "options": ["rbind"]}
    mounts = [*rootless_config(UID, GID)["mounts"], mount]
    ended = user.command("run", "-b", user.bundle("cat /tmp/secret; id -u", mounts=mounts), "c1")
    assert ended.stdout == "0\n" and "Permission denied" in ended.stderr


def test_a_source_that_the_user_may_not_reach(user: User) -> None:
    closed = user.directory / "closed"
    (closed / "inner").mkdir(parents=True)
    os.chown(closed, 0, 0)
    closed.chmod(0o700)
    mount = {"destination": "/tmp", "type": "none", "source": str(closed / "inner"), "options": ["rbind"]}
    told = user.fail("run", "-b", user.bundle("true", mounts=[*rootless_config(UID, GID)["mounts"], mount]), "c1")
    assert "open tree" in told and "$.mounts[7].source" in told and "EACCES" in told
    assert not (user.root / "c1").exists()


def test_a_limit_above_the_users(user: User) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**30}
    told = user.fail("run", "-b", user.bundle(["/bin/true"], process={"rlimits": [limit]}), "c1")
    assert "$.process.rlimits[0].hard" in told and "only root" in told


def test_hooks_are_the_users(user: User) -> None:
    told = user.directory / "told"
    hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"id -u >>{told}; ls {user.rootfs}/proc | grep -cx self >>{told} || true"],
                     "env": ["PATH=/bin:/usr/bin"]}] for kind in ("createRuntime", "createContainer", "poststop")}
    user.succeed("run", "-b", user.bundle("true", hooks=hooks), "c1")
    # of the three only createContainer's is in the container's namespaces, where its own id is 0 and the mounts are made
    assert told.read_text().split() == [str(UID), "0", "0", "1", str(UID), "0"]


def test_a_user_namespace_that_is_joined(user: User) -> None:
    user.detach("run", "--detach", "-b", user.bundle(["/bin/sleep", "1000"]), "c1")
    pid = json.loads(user.succeed("state", "c1"))["pid"]
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts")]
    joined = [{"type": "user", "path": f"/proc/{pid}/ns/user"}, {"type": "pid", "path": f"/proc/{pid}/ns/pid"}]
    bundle = user.bundle("id -u; cat /proc/self/uid_map; cat /proc/1/cmdline", linux={
        "namespaces": [*namespaces, *joined], "uidMappings": None, "gidMappings": None})
    assert user.succeed("run", "-b", bundle, "c2").replace("\0", " ").split() == ["0", "0", str(UID), "1", "/bin/sleep", "1000"]


def test_sysfs_without_a_network_namespace(user: User) -> None:
    mounts = default_config()["mounts"]
    told = user.fail("run", "-b", user.bundle(["/bin/true"], mounts=[mounts[0], mounts[5]]), "c1")
    assert "$.mounts[1]" in told and "network namespace" in told and "rbind" in told


@pytest.fixture
def own_cgroup(user: User) -> Iterator[Path]:
    """A v2 cgroup that belongs to the user, in which nothing is."""
    top = next(hierarchy.mount_point for hierarchy in read_host().hierarchies if hierarchy.is_v2)
    path = Path(top) / "pyruntime-test-of-user"
    path.mkdir()
    os.chown(path, UID, GID)
    yield path
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)


@pytest.mark.parametrize("options", [["rbind", "ro"], ["rbind", "nosuid", "noexec", "nodev", "ro"], ["rbind", "rro"]])
@pytest.mark.parametrize("has_cgroup_namespace", [True, False])
def test_cgroups_of_the_host_cannot_be_written(user: User, own_cgroup: Path, options: list[str], has_cgroup_namespace: bool) -> None:
    """CVE-2023-25809: below a /sys that is bound read-only the user's own cgroups were not."""
    config = rootless_config(UID, GID)
    mounts = [mount for mount in config["mounts"] if not mount["destination"].startswith("/sys")]
    mounts.append({"destination": "/sys", "type": "none", "source": "/sys", "options": options})
    namespaces = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup" or has_cgroup_namespace]
    changes: dict[str, Any] = {"mounts": mounts, "linux": {"namespaces": namespaces}}
    ended = user.command("run", "-b", user.bundle(f"mkdir {own_cgroup}/x", **changes), "c1")
    assert ended.returncode == 1 and "Read-only file system" in ended.stderr
    assert not (own_cgroup / "x").exists()
    # and it is the mount that keeps it away: where the configuration does not ask for read-only it can be written
    mounts[-1] = {**mounts[-1], "options": ["rbind"]}
    user.succeed("run", "-b", user.bundle(f"mkdir {own_cgroup}/x", **changes), "c1")
    assert (own_cgroup / "x").exists()


@pytest.mark.parametrize("has_cgroup_namespace", [True, False])
def test_a_container_without_a_cgroup_sees_none(user: User, has_cgroup_namespace: bool) -> None:
    config = rootless_config(UID, GID)
    config["mounts"][6]["options"] = ["rw"]
    namespaces = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup" or has_cgroup_namespace]
    ended = user.command("run", "-b", user.bundle("ls -A /sys/fs/cgroup; touch /sys/fs/cgroup/x", mounts=config["mounts"],
                                                  linux={"namespaces": namespaces}), "c1")
    assert ended.stdout == "" and ended.returncode == 1 and "Read-only file system" in ended.stderr


# where the host forbids it


def in_a_user_namespace(user: User, before: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as root of a user namespace that the user has made."""
    script = f"{before}; exec \"$@\""
    return user.run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", COMMAND, *arguments)


@pytest.mark.parametrize(("name", "kind"), [("user", "user"), ("mnt", "mount"), ("pid", "pid")])
def test_the_limit_of_namespaces_is_named(user: User, name: str, kind: str) -> None:
    changes = {"linux": {field: [{"containerID": 0, "hostID": 0, "size": 1}] for field in ("uidMappings", "gidMappings")}}
    forbid = f"echo 0 >/proc/sys/user/max_{name}_namespaces"
    ended = in_a_user_namespace(user, forbid, "run", "-b", user.bundle(["/bin/true"], **changes), "c1")
    assert ended.returncode == 1, ended
    assert f"user.max_{name}_namespaces is 0" in ended.stderr and f"no {kind} namespace" in ended.stderr and "ENOSPC" in ended.stderr
    assert not (user.root / "c1").exists()


def test_root_of_a_user_namespace(user: User) -> None:
    """As podman calls a runtime for a user: without a user namespace in the configuration."""
    config = default_config()
    config["mounts"][2]["options"].remove("gid=5")
    changes = {"mounts": config["mounts"], "linux": {"namespaces": config["linux"]["namespaces"], "uidMappings": None, "gidMappings": None}}
    script = "id -u; cat /proc/self/uid_map; echo x >/dev/null; ls /sys/kernel >/dev/null; stat -c %t:%T /dev/zero"
    ended = in_a_user_namespace(user, "true", "run", "-b", user.bundle(script, **changes), "c1")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert ended.stdout.split() == ["0", "0", str(UID), "1", "1:5"]


def test_a_user_namespace_in_a_user_namespace(user: User) -> None:
    changes = {"linux": {field: [{"containerID": 0, "hostID": 0, "size": 1}] for field in ("uidMappings", "gidMappings")}}
    ended = in_a_user_namespace(user, "true", "run", "-b", user.bundle("id -u; readlink /proc/self/ns/user", **changes), "c1")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert ended.stdout.split()[0] == "0"


@pytest.mark.parametrize(("error", "words"), [(errno.EPERM, "may forbid user namespaces"), (errno.ENOSYS, "does not know it")])
def test_the_filter_that_the_caller_is_under_may_forbid_it(user: User, error: int, words: str) -> None:
    """As an engine's, for a runtime in a container."""
    clone3, load, compare, answer = 435, 0x20, 0x15, 0x06  # seccomp(2): the call's number is at 0
    program = b"".join(struct.pack("=HBBI", *row) for row in (
        (load, 0, 0, 0), (compare, 0, 1, clone3), (answer, 0, 0, 0x50000 | error), (answer, 0, 0, 0x7FFF0000)))
    script = f"""
import ctypes, os, struct, sys
program = ctypes.create_string_buffer({program!r})
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, struct.pack("HxxxxxxQ", 4, ctypes.addressof(program)), 0, 0) == 0  # PR_SET_SECCOMP
os.execv(sys.argv[1], sys.argv[1:])
"""
    ended = user.run(sys.executable, "-c", script, COMMAND, "run", "-b", user.bundle(["/bin/true"]), "c1")
    assert ended.returncode == 1 and words in ended.stderr and errno.errorcode[error] in ended.stderr, ended
