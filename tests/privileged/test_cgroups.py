"""The container's cgroups themselves: how they are shown inside, what is left in them, and who may remove what."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from lab import NAMESPACES, Lab, capabilities, cgroup_file, is_unified, namespaces

from pyruntime import StdioOptions
from pyruntime.cgroups import cgroups_of, remove_empty_parent
from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config

PIDS = "/sys/fs/cgroup" if is_unified() else "/sys/fs/cgroup/pids"  # as a container sees it


def writable_cgroups() -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = default_config()["mounts"]
    for mount in mounts:
        if mount["type"] == "cgroup":
            mount["options"].remove("ro")
    return mounts


@pytest.mark.parametrize("left_out", [None, "cgroup"])
def test_own_cgroups_only(lab: Lab, left_out: str | None) -> None:
    out = lab.run(f"cat {PIDS}/pids.max; mkdir {PIDS}/new 2>&1; ls -d {PIDS}/*/",
                  linux={"resources": {"pids": {"limit": 123}},
                         "namespaces": namespaces(*(kind for kind in NAMESPACES if kind != left_out))})
    lines = out.splitlines()
    assert lines[0] == "123" and "Read-only file system" in lines[1] and len(lines) == 2


@pytest.mark.conformance(27)
def test_root_of_the_cgroup_namespace(lab: Lab) -> None:
    """The mount shows the namespace's root, and /proc names cgroups from there."""
    out = lab.run("cat /proc/self/cgroup; echo; grep ' cgroup2* ' /proc/self/mountinfo")
    own, mounts = out.split("\n\n")
    assert {line.split(":", 2)[2] for line in own.splitlines()} <= {"/"} | {
        line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    assert {line.split()[3] for line in mounts.splitlines()} == {"/"}
    assert len(mounts.splitlines()) == (1 if is_unified() else sum(not each.is_v2 for each in read_host().hierarchies))


def test_cgroup2_is_the_v2_cgroup(lab: Lab) -> None:
    """Also where the controllers are on v1; and propagation is what the mount's options say."""
    mount = {"destination": "/tmp", "type": "cgroup2", "options": ["ro", "rprivate"]}
    out = lab.run("cat /tmp/cgroup.procs; grep ' /tmp ' /proc/self/mountinfo", mounts=[*default_config()["mounts"], mount])
    *pids, line = out.splitlines()
    assert "1" in pids
    before, after = line.split(" - ")
    assert after.split()[0] == "cgroup2" and before.split()[5].startswith("ro")
    assert not re.search("(shared|master):", before)


@pytest.mark.conformance(60)
def test_cgroups_that_the_container_made(lab: Lab) -> None:
    """They are counted in, frozen with the rest, and deleted."""
    lab.create(f"mkdir {PIDS}/a {PIDS}/a/b; echo $$ >{PIDS}/a/b/cgroup.procs; echo made; exec sleep 1000",
               mounts=writable_cgroups(), process=capabilities("CAP_DAC_OVERRIDE"))
    lab.runtime.start_container("p1")
    pid = lab.runtime.get_init_pid("p1")
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None and os.read(out.fileno(), 100) == b"made\n"
    inner = cgroup_file("pids", "", "") / "a" / "b"
    assert (inner / "cgroup.procs").read_text().split() == [str(pid)]
    assert [process.pid for process in lab.runtime.get_running_container_processes("p1")] == [pid]
    lab.runtime.pause_container("p1")
    lab.runtime.resume_container("p1")
    lab.runtime.delete_container("p1", force=True)
    assert not inner.parent.parent.exists()


def test_exec_beside_controllers_that_the_container_passes_on(lab: Lab) -> None:
    """As systemd does inside: on v2 a cgroup that passes controllers on takes no processes, so exec goes to where init is."""
    lab.create(f"mkdir {PIDS}/init; for p in $(cat {PIDS}/cgroup.procs); do echo $p >{PIDS}/init/cgroup.procs; done; "
               f"echo +pids >{PIDS}/cgroup.subtree_control; echo made; exec sleep 1000",
               mounts=writable_cgroups(), process=capabilities("CAP_DAC_OVERRIDE"))
    lab.runtime.start_container("p1")
    out = lab.runtime.get_stdio_pipes("p1", lab.runtime.get_init_pid("p1")).out
    assert out is not None and os.read(out.fileno(), 100) == b"made\n"
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    assert cgroup_file("pids", "", "").name == "p1"
    own = {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    assert "/pyruntime/p1/init" in own if is_unified() else "/pyruntime/p1" in own
    assert pid in [process.pid for process in lab.runtime.get_running_container_processes("p1")]


def test_exec_goes_into_no_other_cgroup(lab: Lab) -> None:
    """Not where init was moved to, if that is not below the container's own; a name that only begins the same is not."""
    pid = lab.sleeper()
    own = next(Path(hierarchy.mount_point, "pyruntime/p1") for hierarchy in read_host().hierarchies if hierarchy.is_v2)
    other = own.with_name("p1-other")
    other.mkdir()
    (other / "cgroup.procs").write_text(str(pid))
    if is_unified():
        (own / "cgroup.subtree_control").write_text("+memory")  # which allows no processes beside
        with pytest.raises(SetupError, match="EBUSY"):
            lab.exec("true")
    else:
        assert lab.exec("echo done") == "done\n"
    assert (other / "cgroup.procs").read_text() == f"{pid}\n"
    lab.runtime.delete_container("p1", force=True)
    other.rmdir()


@pytest.mark.conformance(60)
def test_processes_that_fork_while_they_are_killed(lab: Lab) -> None:
    """Without a pid namespace that would end with its init."""
    # chains of processes that live only until they have made the next one
    script = "f() { f & }; f & f & f & echo forking; exec sleep 1000"
    pid = lab.create(script, linux={"namespaces": namespaces(*(kind for kind in NAMESPACES if kind != "pid")),
                                    "resources": {"pids": {"limit": 40}}})
    lab.runtime.start_container("p1")
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None and os.read(out.fileno(), 100) == b"forking\n"
    lab.runtime.delete_container("p1", force=True)
    assert not any(Path(hierarchy.mount_point, "pyruntime/p1").exists() for hierarchy in read_host().hierarchies)
    # orphans belong to the first process of the pid namespace, which these tests may be
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@pytest.mark.parametrize("id", ["cgroup.procs", "tasks", "pids.max", "cgroup.freeze", "memory.stat"])
def test_id_that_is_a_file_of_a_cgroup(lab: Lab, id: str) -> None:
    """It runs where the cgroup has no such file, and else it fails and leaves nothing."""
    is_file = any(Path(hierarchy.mount_point, "pyruntime", id).is_file() for hierarchy in read_host().hierarchies)
    try:
        lab.sleeper(id)
        assert not is_file
        lab.runtime.pause_container(id)
        lab.runtime.delete_container(id, force=True)
    except SetupError as error:
        assert is_file and error.errno == errno.ENOTDIR
    assert not lab.runtime.container_exists(id)
    assert not any(Path(hierarchy.mount_point, "pyruntime", id).is_dir() for hierarchy in read_host().hierarchies)


def test_parent_is_removed_when_it_is_empty(lab: Lab) -> None:
    parents = [Path(hierarchy.mount_point, "pyruntime-parent/p-deep") for hierarchy in read_host().hierarchies]
    lab.sleeper(linux={"cgroupsPath": "/pyruntime-parent/p-deep/p1"})
    remove_empty_parent("/pyruntime-parent/p-deep")
    assert all(parent.is_dir() for parent in parents)
    lab.runtime.delete_container("p1", force=True)
    remove_empty_parent("/pyruntime-parent")
    assert all(parent.is_dir() for parent in parents)
    remove_empty_parent("/pyruntime-parent/p-deep")
    remove_empty_parent("/pyruntime-parent")
    remove_empty_parent("/pyruntime-parent")
    assert not any(parent.parent.exists() for parent in parents)


def test_parent_that_is_removed_while_children_are_made(lab: Lab) -> None:
    bundle = lab.bundle(["/bin/true"], linux={"cgroupsPath": "/pyruntime-parent/p1"})
    parents = [Path(hierarchy.mount_point, "pyruntime-parent") for hierarchy in read_host().hierarchies]
    done = threading.Event()
    removals = 0

    def remove() -> None:
        nonlocal removals
        while not done.is_set():
            there = any(parent.exists() for parent in parents)
            remove_empty_parent("/pyruntime-parent")
            removals += there and not all(parent.exists() for parent in parents)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(60):
            lab.runtime.create_container("p1", bundle, StdioOptions())
            lab.runtime.delete_container("p1", force=True)
    finally:
        done.set()
        remover.join()
    assert removals > 0, "it was never at work"
    remove_empty_parent("/pyruntime-parent")
    assert not any(parent.exists() for parent in parents)


@pytest.mark.conformance(35)
@pytest.mark.parametrize("path", ["/", "//", "/pyruntime/p1", "/pyruntime/p1/below/.."])
def test_cgroup_of_others_is_refused_and_let_be(lab: Lab, path: str) -> None:
    """What runs in a container's cgroup is killed with it, so that it may not be anybody else's."""
    pid = lab.sleeper("p1")
    with pytest.raises((SetupError, InvalidBundleError)) as raised:
        lab.create("true", "p2", linux={"cgroupsPath": path})
    assert raised.value.json_path == "$.linux.cgroupsPath"
    if isinstance(raised.value, SetupError):
        assert (raised.value.step, raised.value.errno_name) == ("make cgroup", "EBUSY")
    assert not lab.runtime.container_exists("p2")
    assert lab.runtime.get_container_state("p1").pid == pid


@pytest.mark.conformance(35)
def test_cgroup_above_others_is_refused_and_let_be(lab: Lab) -> None:
    pid = lab.sleeper("p1", linux={"cgroupsPath": "/pyruntime/above/p1"})
    with pytest.raises(SetupError) as raised:
        lab.create("true", "p2", linux={"cgroupsPath": "/pyruntime/above"})
    assert (raised.value.step, raised.value.errno_name) == ("make cgroup", "EBUSY")
    assert lab.runtime.get_container_state("p1").pid == pid
    lab.delete_all()
    for cgroup in cgroups_of(read_host(), "/pyruntime/above"):
        os.rmdir(cgroup.path)


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("path", "where"), [("/pyruntime-at/p1", "/pyruntime-at/p1"), ("pyruntime-at/p1", "/pyruntime-at/p1"),
                                             ("/pyruntime-at//p1/", "/pyruntime-at/p1"), ("", "/pyruntime/p1"), (None, "/pyruntime/p1")])
def test_where_a_path_is(lab: Lab, path: str | None, where: str) -> None:
    """From the root of each hierarchy, whoever asks; the same path is the same place for the next container."""
    for _ in range(2):
        pid = lab.sleeper(linux={"cgroupsPath": path})
        for cgroup in cgroups_of(read_host(), where):
            assert str(pid) in Path(cgroup.path, "cgroup.procs").read_text().split()
        lab.runtime.delete_container("p1", force=True)
    if path:
        remove_empty_parent("/pyruntime-at")


@pytest.mark.conformance(34)
def test_empty_cgroup_that_exists_is_taken(lab: Lab) -> None:
    for cgroup in cgroups_of(read_host(), "/pyruntime/p1"):
        os.makedirs(cgroup.path)
    assert lab.run("echo it runs") == "it runs\n"


def test_exec_below_a_frozen_cgroup(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have frozen is not paused by this runtime, but nothing that is cloned into it goes on."""
    monkeypatch.setattr("pyruntime.native.process.SETUP_TIMEOUT_S", 1.0)
    lab.sleeper(linux={"cgroupsPath": "/pyruntime-frozen/p1"})
    parents = [Path(cgroup.path).parent for cgroup in cgroups_of(read_host(), "/pyruntime-frozen/p1")]
    unified = next(parent for parent in parents if (parent / "cgroup.freeze").exists())
    try:
        (unified / "cgroup.freeze").write_text("1")
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(SetupError) as caught:
            lab.runtime.exec_process("p1", {"args": ["/bin/true"], "cwd": "/"}, StdioOptions())
        assert caught.value.errno == errno.ETIMEDOUT and set(os.listdir("/proc/self/fd")) == before
        (unified / "cgroup.freeze").write_text("0")
        assert len((unified / "p1" / "cgroup.procs").read_text().split()) == 1
        assert lab.exec("echo thawed") == "thawed\n"
    finally:
        (unified / "cgroup.freeze").write_text("0")
        lab.runtime.delete_container("p1", force=True)
        for parent in parents:
            parent.rmdir()
