"""Whether the contenders make the same container of the same bundle, as far as the host sees a running one."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.bundle import BUSYBOX
from bench.measurements import Contender
from bench.samples import describe

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
OURS = ("native", "floor")
IDENTITY = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
STATUS = (*IDENTITY, "NoNewPrivs", "Seccomp", "NSpid", "Umask")

START_TIMEOUT_S = 5

Facts = dict[str, str]


def observe(pid: int) -> Facts:
    """Facts by name, without what differs from container to container."""
    process = Path(f"/proc/{pid}")
    cgroup = _own_cgroup(process)
    facts: Facts = {}
    for name in NAMESPACES:
        own = os.readlink(f"/proc/self/ns/{name}")
        facts[f"namespace {name}"] = "host" if os.readlink(process / "ns" / name) == own else "new"
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in STATUS:
            facts[f"status {name}"] = re.sub(r"^\d+", "PID", value.strip()) if name == "NSpid" else value.strip()
    for line in (process / "limits").read_text().splitlines()[1:]:
        facts[f"limit {line[:25].strip()}"] = " ".join(line[25:].split())
    for line in (process / "cgroup").read_text().splitlines():
        _, controller, path = line.split(":", 2)
        facts[f"cgroup of {controller or 'v2'}"] = path.replace(cgroup, "CGROUP")
    facts.update(_mounts(process, cgroup))
    facts.update(_devices(process / "root" / "dev"))
    facts.update(_cgroup_files(cgroup))
    facts["working directory"] = os.readlink(process / "cwd")
    facts["environment"] = (process / "environ").read_bytes().decode().replace("\0", " ")
    facts["loopback"] = (process / "root/sys/class/net/lo/flags").read_text().strip()
    hostname = ["nsenter", f"--uts=/proc/{pid}/ns/uts", "uname", "-n"]
    facts["hostname"] = subprocess.run(hostname, capture_output=True, text=True, check=True).stdout.strip()
    return facts


def _own_cgroup(process: Path) -> str:
    return (process / "cgroup").read_text().splitlines()[-1].split(":", 2)[2]


def _mounts(process: Path, cgroup: str) -> Facts:
    """By mount point: the options and the file system; numbers and the root file system's path left out."""
    facts = {}
    for line in (process / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, options, *propagation = before.split()
        root = "ROOTFS" if point == "/" else root.replace(cgroup, "CGROUP")
        facts[f"mount {point}"] = f"{root} {options} {' '.join(propagation)} - {after}"
    return facts


def _devices(directory: Path) -> Facts:
    facts = {}
    for entry in sorted(directory.iterdir()):
        status = entry.lstat()
        detail = os.readlink(entry) if entry.is_symlink() else ""
        if stat.S_ISCHR(status.st_mode):
            detail = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        owner = f"{status.st_uid}:{status.st_gid}"
        facts[f"device {entry.name}"] = f"{stat.filemode(status.st_mode)} {owner} {detail}".strip()
    return facts


def _cgroup_files(cgroup: str) -> Facts:
    """What was written into the container's v1 cgroups."""
    facts = {}
    for file in ("devices/{}/devices.list", "cpuset/{}/cpuset.cpus", "cpuset/{}/cpuset.mems"):
        path = Path("/sys/fs/cgroup") / file.format(cgroup.lstrip("/"))
        if path.exists():
            facts[path.name] = ", ".join(sorted(path.read_text().splitlines()))
    return facts


def _has_executed(process: Path) -> bool:
    """Whether the program runs; in the middle of execve(2) there is a new executable without an environment."""
    return os.path.basename(os.readlink(process / "exe")) == BUSYBOX.name and bool((process / "environ").read_bytes())


def _observe_running(contender: Contender) -> Facts:
    pid = contender.run_sleep()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _has_executed(Path(f"/proc/{pid}")) and time.monotonic() < deadline:
            time.sleep(0.01)  # runc's start returns before that
        return observe(pid)
    finally:
        contender.remove()


def compare(contenders: Mapping[str, Contender], reference: str) -> tuple[str, bool]:
    """The differences from the reference, as text, and whether ours have none; other runtimes have their own ideas."""
    observed: dict[str, Facts] = {}
    lines: list[str] = []
    for name, contender in contenders.items():
        try:
            observed[name] = _observe_running(contender)
        except Exception as error:  # the others can be compared
            lines.append(f"{name}: {describe(error)}")
    if reference not in observed:
        return "\n".join([*lines, f"without {reference} there is nothing to compare with"]), False
    expected = observed.pop(reference)
    for name, facts in observed.items():
        keys = [key for key in sorted(expected | facts) if expected.get(key) != facts.get(key)]
        lines.append(f"{name}: {len(keys)} of {len(expected | facts)} facts differ from {reference}'s")
        for key in keys:
            lines.append(f"  {key}\n    {reference}: {expected.get(key, '-')}\n    {name}: {facts.get(key, '-')}")
    return "\n".join(lines), all(observed.get(name, expected) == expected for name in OURS)
