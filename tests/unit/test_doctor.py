"""What is said of hosts that are made up: files below a directory, and probes that answer as they are told."""

from __future__ import annotations

import errno
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pyruntime
from pyruntime.cli import diagnosis
from pyruntime.cli.main import main
from pyruntime.doctor import Finding, Sight, Verdict, callers, can_run, diagnose, namespace_probe
from pyruntime.doctor.probes import SYSTEM_CALLS, Criu, Probes
from pyruntime.host import Hierarchy, Host, Unprivileged
from pyruntime.plan.flags import CAPABILITIES

ALL = 2**41 - 1
V2 = "30 20 0:26 / /cg rw - cgroup2 cgroup2 rw\n"
V1 = "30 20 0:26 / /v1/memory rw - cgroup cgroup rw,memory\n31 20 0:27 / /v1/cpu rw - cgroup cgroup rw,cpu\n"
ROOT = Host((6, 18), (Hierarchy("/cg", True),), ALL, bounding_capabilities=ALL, has_apparmor=True, has_selinux=True, resctrl="/sys/fs/resctrl")
USER = Host((6, 18), (Hierarchy("/cg", True),), 0, caller=Unprivileged(os.getuid(), os.getgid()), delegated="/u")
WORKING = dict.fromkeys(("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time", "change mounts"), 0)


class FakeProbes(Probes):
    """Everything works but what a test changes."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.memfd = self.pidfds = 0
        self.tried: dict[str, int] | None = dict(WORKING)
        self.asked: list[bool] = []
        self.descriptors = 20000, 20000
        self.found_criu: Criu | None = Criu("/usr/sbin/criu", "4.2")
        self.no_systemd: str | None = None

    def system_call(self, name: str) -> int:
        return self.calls.get(name, errno.EINVAL)

    def executable_memfd(self) -> int:
        return self.memfd

    def pidfd(self) -> int:
        return self.pidfds

    def namespaces(self, is_user: bool) -> dict[str, int] | None:
        self.asked.append(is_user)
        return self.tried

    def limit_of_descriptors(self) -> tuple[int, int]:
        return self.descriptors

    def libseccomp(self) -> str:
        return "2.5.4"

    def criu(self, checks: bool) -> Criu | None:
        self.asked.append(checks)
        return self.found_criu

    def systemd(self) -> str | None:
        return self.no_systemd


class Lab:
    """A host where all is as it should be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.probes = FakeProbes()
        self.host = ROOT
        self.root = "/run/pyruntime"
        (directory / "run").mkdir()
        self.write("/proc/sys/kernel/osrelease", "6.18.1-test")
        file_systems = ("proc", "tmpfs", "devpts", "sysfs", "mqueue", "overlay", "resctrl")
        self.write("/proc/filesystems", "".join(f"nodev\t{name}\n" for name in file_systems))
        self.write("/proc/sys/kernel/seccomp/actions_avail", "kill_process errno user_notif allow\n")
        self.write("/proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t0\n")
        self.write("/proc/self/mountinfo", V2)
        self.write("/cg/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
        self.write("/cg/a/cgroup.procs", "")
        self.write("/cg/a/memory.oom.group", "0\n")

    def write(self, name: str, text: str) -> None:
        path = self.directory / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def findings(self) -> tuple[Finding, ...]:
        return diagnose(self.root, sight=Sight(str(self.directory)), probes=self.probes, host=self.host)

    def finding(self, name: str) -> Finding:
        (found,) = [finding for finding in self.findings() if finding.name == name]
        return found


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(callers, "program_path", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run")
    return Lab(tmp_path)


def test_where_all_is_well(lab: Lab) -> None:
    findings = lab.findings()
    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == [] and can_run(findings)
    assert [topic for topic in dict.fromkeys(finding.topic for finding in findings)] == [
        "kernel", "cgroups", "privileges", "namespaces", "programs", "modules"]
    assert all(finding.follows is finding.remedy is None for finding in findings)
    assert lab.probes.asked == [False, True]


Change = Callable[[Lab], None]


def probing(**changes: object) -> Change:
    def change(lab: Lab) -> None:
        for name, value in changes.items():
            assert hasattr(lab.probes, name)
            setattr(lab.probes, name, value)
    return change


def writing(name: str, text: str) -> Change:
    return lambda lab: lab.write(name, text)


def on(**changes: object) -> Change:
    def change(lab: Lab) -> None:
        import msgspec

        lab.host = msgspec.structs.replace(lab.host, **changes)
    return change


def without(*names: str) -> int:
    return ALL & ~sum(1 << CAPABILITIES[name] for name in names)


# (what is changed, the finding, its verdict, what it says, its remedy, whether containers can run)
@pytest.mark.parametrize(("change", "name", "verdict", "said", "remedy", "runs"), [
    (writing("/proc/sys/kernel/osrelease", "5.10.0-8-amd64"), "release", "missing", "Linux 5.10.0-8-amd64", "boot a newer kernel", False),
    (probing(calls={"clone3": errno.ENOSYS}), "system calls", "missing", "refused: clone3 (ENOSYS)", "seccomp=unconfined", False),
    (probing(calls={"fsopen": errno.EPERM}), "system calls", "missing", "refused: fsopen (EPERM)", "seccomp=unconfined", False),
    (probing(memfd=errno.EACCES), "executable memfds", "missing", "EACCES: Permission denied", "sysctl vm.memfd_noexec=1", False),
    (probing(pidfds=errno.EPERM), "pidfds", "missing", "EPERM", "seccomp=unconfined", False),
    (writing("/proc/sys/kernel/seccomp/actions_avail", "errno allow\n"), "seccomp", "limited", "without SCMP_ACT_NOTIFY", "5.19", True),
    (writing("/proc/sys/kernel/seccomp/actions_avail", ""), "seccomp", "missing", "has no filters", "CONFIG_SECCOMP_FILTER", True),
    (writing("/proc/sys/kernel/osrelease", "5.15.0"), "seccomp", "limited", "WAIT_KILLABLE_RECV", "5.19", True),
    (writing("/proc/filesystems", "nodev\tproc\n"), "file system overlay", "limited", "is not loaded", "modprobe overlay", True),
    (writing("/cg/cgroup.controllers", "cpu pids\n"), "controllers", "limited", "without cpuset, memory, io, hugetlb", "/proc/cgroups", True),
    (on(held_capabilities=without("CAP_SYS_RESOURCE")), "CAP_SYS_RESOURCE", "limited", "is not held", "--cap-add=SYS_RESOURCE", True),
    (on(held_capabilities=without("CAP_MKNOD")), "CAP_MKNOD", "missing", "is not held", "--cap-add=MKNOD", False),
    (on(bounding_capabilities=without("CAP_SYS_TIME")), "bounding set", "limited", "without CAP_SYS_TIME", "--privileged", True),
    (writing("/proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t2\n"), "filter", "limited", "under a filter", "seccomp=unconfined", True),
    (probing(descriptors=(256, 4096)), "RLIMIT_NOFILE", "limited", "256, at most 4096", "ulimit -n 4096", True),
    (probing(descriptors=(256, 256)), "RLIMIT_NOFILE", "limited", "256, at most 256", "LimitNOFILE", True),
    (probing(tried=WORKING | {"pid": errno.ENOSPC}), "pid namespaces", "missing", "ENOSPC", "sysctl user.max_pid_namespaces", False),
    (probing(tried=WORKING | {"network": errno.ENOSPC}), "network namespaces", "limited", "ENOSPC", "sysctl user.max_net_namespaces", True),
    (probing(tried=WORKING | {"time": errno.EINVAL}), "time namespaces", "limited", "EINVAL", "CONFIG_TIME_NS", True),
    (probing(tried=WORKING | {"map ids of /": errno.EINVAL, "map ids of /tmp": 0}), "id-mapped mounts", "limited", "/: EINVAL", "tmpfs", True),
    (probing(tried=None), "probe", "limited", "no Python interpreter", None, True),
    (writing("/proc/sys/kernel/unprivileged_userns_clone", "0"), "user namespaces", "limited", "kernel.unprivileged_userns_clone is 0",
     "sysctl kernel.unprivileged_userns_clone=1", True),
    (writing("/proc/sys/user/max_user_namespaces", "0"), "user namespaces", "limited", "user.max_user_namespaces is 0",
     "sysctl user.max_user_namespaces=15000", True),
    (probing(found_criu=None), "criu", "missing", "is not installed", "apt install criu", True),
    (probing(found_criu=Criu("/c", "3.17", "Error: vdso")), "criu", "limited", "3.17, says: Error: vdso", "a newer criu", True),
    (probing(no_systemd="it does not run"), "systemd", "missing", "it does not run", "native.cgroupdriver=cgroupfs", True),
    (on(has_apparmor=False), "AppArmor", "missing", "is not in force", "apparmor=1", True),
    (on(has_selinux=False), "SELinux", "missing", "is not in force", "selinux=1", True),
    (on(resctrl=None), "resctrl", "missing", "is not mounted", "mount -t resctrl", True)])
def test_of_root(lab: Lab, change: Change, name: str, verdict: str, said: str, remedy: str | None, runs: bool) -> None:
    change(lab)
    findings = lab.findings()
    (found,) = [finding for finding in findings if finding.name == name]
    assert found.verdict == verdict and said in found.found and found.follows
    assert found.remedy is None if remedy is None else remedy in str(found.remedy)
    assert can_run(findings) is runs


def test_a_machine_without_resctrl(lab: Lab) -> None:
    lab.write("/proc/filesystems", "nodev\tproc\n")
    on(resctrl=None)(lab)
    assert lab.finding("resctrl").remedy is None


@pytest.mark.parametrize(("mounts", "verdict", "said"), [
    (V2, "ok", "v2, at /cg"), (V1 + V2, "limited", "hybrid"), (V1, "limited", "v1"), ("", "limited", "no cgroups are mounted")])
def test_versions_of_cgroups(lab: Lab, mounts: str, verdict: str, said: str) -> None:
    lab.write("/proc/self/mountinfo", mounts)
    for directory in ("v1/memory", "v1/cpu"):
        (lab.directory / directory).mkdir(parents=True)
    found = [finding for finding in lab.findings() if (finding.topic, finding.name) == ("cgroups", "version")]
    assert [(one.verdict, said in one.found) for one in found] == [(verdict, True)] and can_run(lab.findings())
    assert lab.finding("memory.oom.group").verdict == ("ok" if verdict == "ok" else "limited")
    if mounts == V1:
        assert "without cpuset, pids, io, hugetlb" in lab.finding("controllers").found


def test_a_memory_controller_that_is_switched_off(lab: Lab) -> None:
    lab.write("/cg/cgroup.controllers", "cpuset cpu io hugetlb pids\n")
    lab.write("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t1\t1\nmemory\t0\t1\t0\n")
    assert lab.finding("controllers").remedy == "boot with cgroup_enable=memory"


def test_a_controller_of_v1_that_is_not_mounted(lab: Lab) -> None:
    (lab.directory / "v1/memory").mkdir(parents=True)
    (lab.directory / "v1/cpu").mkdir()
    lab.write("/proc/self/mountinfo", V1)
    lab.write("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t1\t1\ncpu\t1\t1\t1\nhugetlb\t0\t1\t1\n")
    assert lab.finding("controllers").remedy == "mkdir -p /sys/fs/cgroup/hugetlb && mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb"


def test_cgroups_below_that_have_no_memory_controller(lab: Lab) -> None:
    (lab.directory / "cg/a/memory.oom.group").unlink()
    assert lab.finding("memory.oom.group").remedy == "echo +memory > /cg/cgroup.subtree_control"


def test_cgroups_that_are_read_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sight, "is_writable", lambda self, name: name != "/cg")
    assert lab.finding("access").found == "read-only: /cg" and "remount,rw" in str(lab.finding("access").remedy)
    assert not can_run(lab.findings())


@pytest.fixture
def user(lab: Lab) -> Lab:
    """One without privileges, who has all that such a one can have."""
    name = pwd.getpwuid(os.getuid()).pw_name
    lab.host = USER
    lab.probes.tried = WORKING | {"mount proc": 0}
    lab.write("/cg/u/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
    for file in ("/etc/subuid", "/etc/subgid"):
        lab.write(file, f"other:1:2\n{name}:100000:65536\n")
    return lab


def test_a_user(user: Lab) -> None:
    findings = user.findings()
    assert can_run(findings) and user.probes.asked == [True, False]
    assert {finding.name for finding in findings if finding.verdict is not Verdict.OK} == {"AppArmor", "SELinux", "resctrl"}
    by_name = {finding.name: finding for finding in findings}
    assert by_name["/etc/subuid"].found == f"{pwd.getpwuid(os.getuid()).pw_name}:100000:65536"
    assert by_name["state directory"].found == "/run/pyruntime can be made" and by_name["delegation"].found == "cgroups can be made below /cg/u"
    assert "capabilities" not in by_name


SWITCH = "/proc/sys/kernel/"


@pytest.mark.parametrize(("change", "name", "verdict", "said", "remedy", "runs"), [
    (probing(tried={"user": errno.EPERM}), "user namespaces", "missing", "EPERM", None, False),
    (probing(tried={**WORKING, "change mounts": errno.EACCES}), "user namespaces", "missing", "nothing be mounted in them", None, False),
    (probing(tried={**WORKING, "mount proc": errno.EPERM}), "proc in user namespaces", "limited", "EPERM", "rbind", True),
    (probing(calls=dict.fromkeys(SYSTEM_CALLS, errno.EPERM)), "system calls", "ok", "clone3", None, True),
    (writing("/etc/subuid", "other:1:2\n"), "/etc/subuid", "limited", "has no line for", "usermod --add-subuids 100000-165535", True),
    (writing("/etc/subgid", ""), "/etc/subgid", "limited", "has no line for", "usermod --add-subgids", True),
    (writing("/cg/u/cgroup.controllers", "memory pids\n"), "controllers", "limited", "without cpu, cpuset, io, hugetlb", "Delegate=cpu", True),
    (probing(no_systemd="connect to the user bus"), "systemd", "missing", "the user bus", "enable-linger", True),
    (on(delegated=None), "delegation", "limited", "no v2 cgroup is this user's", "systemd-run --user", True),
    (on(delegated=None, hierarchies=()), "delegation", "limited", "no v2 cgroup is this user's", "unified_cgroup_hierarchy=1", True),
    (writing("/proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t0\n"), "no_new_privs", "limited", "is set", "NoNewPrivileges", True)])
def test_of_a_user(user: Lab, change: Change, name: str, verdict: str, said: str, remedy: str | None, runs: bool) -> None:
    change(user)
    findings = user.findings()
    (found,) = [finding for finding in findings if finding.name == name]
    assert found.verdict == verdict and said in found.found and (found.follows is not None) is (verdict != "ok")
    assert found.remedy is None if remedy is None else remedy in str(found.remedy)
    assert can_run(findings) is runs


@pytest.mark.parametrize(("file", "value", "tried", "said", "remedy"), [
    ("kernel/unprivileged_userns_clone", "0", {"user": errno.EPERM}, "kernel.unprivileged_userns_clone is 0",
     "kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", {"user": errno.ENOSPC}, "user.max_user_namespaces or another", "user.max_user_namespaces=15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", {"user": 0, "change mounts": errno.EACCES},
     "AppArmor grants capabilities only to programs", "kernel.apparmor_restrict_unprivileged_userns=0")])
def test_the_switch_that_forbids_user_namespaces(user: Lab, file: str, value: str, tried: dict[str, int], said: str, remedy: str) -> None:
    user.write(f"/proc/sys/{file}", value)
    user.probes.tried = tried
    found = user.finding("user namespaces")
    assert [finding for finding in user.findings() if finding.name == "tried"] == [] or not tried["user"]
    assert found.verdict == "missing" and said in str(found.follows) and str(found.remedy).startswith(f"sysctl {remedy}")


def test_a_user_without_a_runtime_directory(user: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = user.finding("state directory")
    assert "XDG_RUNTIME_DIR" in found.found and "export XDG_RUNTIME_DIR" in str(found.remedy) and not can_run(user.findings())
    user.root = "/run/other"
    assert user.finding("state directory").verdict == "ok"


def test_a_state_directory_that_cannot_be_written(user: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sight, "is_writable", lambda self, name: name != "/run")
    user.root = "/run/a/b"
    assert user.finding("state directory").found == "/run cannot be written to" and not can_run(user.findings())


def test_an_old_kernel_is_all_that_is_told(monkeypatch: pytest.MonkeyPatch, lab: Lab) -> None:
    from pyruntime import host
    from pyruntime.errors import UnsupportedHostError

    def refuse() -> Host:
        raise UnsupportedHostError("too old")

    monkeypatch.setattr(host, "read_host", refuse)
    lab.write("/proc/sys/kernel/osrelease", "5.10.0")
    findings = diagnose(sight=Sight(str(lab.directory)), probes=lab.probes)
    assert {finding.topic for finding in findings} == {"kernel"} and not can_run(findings)


@pytest.mark.parametrize("lacks", [False, True])
def test_the_command(lab: Lab, lacks: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    if lacks:
        lab.probes.memfd = errno.EACCES
    monkeypatch.setattr(diagnosis, "diagnose", lambda root: lab.findings())
    assert main(["doctor"]) == int(lacks)
    out, err = capfd.readouterr()
    *lines, last = out.splitlines()
    assert err == "" and lines[0] == "kernel:" and "  ok       release: Linux 6.18.1-test" in lines
    assert last == ("no containers can run for this caller: executable memfds" if lacks else "containers can run for this caller")
    assert ("           remedy: sysctl vm.memfd_noexec=1" in lines) is lacks
    assert main(["doctor", "--format", "json"]) == int(lacks)
    found = json.loads(capfd.readouterr().out)
    assert found["canRun"] is not lacks and len(found["findings"]) == len(lab.findings())
    assert set(found["findings"][0]) == {"topic", "name", "verdict", "found", "follows", "remedy", "isRequired"}


def test_the_function_is_public() -> None:
    assert pyruntime.diagnose is diagnose


def test_probes_of_this_kernel() -> None:
    """Which must be new enough, since the other tests run on it."""
    probes = Probes()
    assert {name: number for name in SYSTEM_CALLS if (number := probes.system_call(name)) not in (errno.EINVAL, errno.EPERM, errno.EBADF)} == {}
    assert probes.executable_memfd() == probes.pidfd() == 0
    assert probes.libseccomp().count(".") == 2


def test_namespaces_of_this_kernel() -> None:
    """In a user namespace of one's own, as any user may, and nothing of it stays."""
    before = os.readlink("/proc/self/ns/user")
    tried = Probes().namespaces(True)
    assert tried is not None and set(tried) == {*WORKING, "mount proc"}
    assert os.readlink("/proc/self/ns/user") == before
    as_program = subprocess.run([sys.executable, "-I", namespace_probe.__file__, "user"], capture_output=True, text=True, check=True).stdout
    assert json.loads(as_program) == tried
