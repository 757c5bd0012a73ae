"""Limits that bind, and where the cgroups are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import Lab

from pyruntime.host import read_host

TOP = Path("/sys/fs/cgroup")
hybrid = pytest.mark.skipif(not (TOP / "memory").is_dir(), reason="no cgroup v1 hierarchies")


def memberships(pid: int | str) -> dict[str, str]:
    rows = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    # a hierarchy that was mounted once can outlive its unmounting as long as it has cgroups
    mounted = {",".join(hierarchy.controllers) for hierarchy in read_host().hierarchies}
    return {controllers: path for _, controllers, path in rows if controllers in mounted}


def test_default_path_in_every_hierarchy(lab: Lab) -> None:
    pid = lab.sleeper()
    inside = memberships(pid)
    assert set(inside.values()) == {"/pyruntime/p1"}
    assert set(inside) == set(memberships("self"))
    lab.exec("true")


def test_exec_joins(lab: Lab) -> None:
    lab.sleeper(linux={"cgroupsPath": "/pyruntime/p-own"})
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, __import__("pyruntime").StdioOptions())
    assert set(memberships(pid).values()) == {"/pyruntime/p-own"}


@hybrid
def test_memory(lab: Lab) -> None:
    state = lab.run_state(["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"],
                          linux={"resources": {"memory": {"limit": 16 << 20}}})[1]
    assert (state.exit_code, state.signal) == (137, 9)


def test_pids(lab: Lab) -> None:
    out = lab.run("sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo all; ", linux={"resources": {"pids": {"limit": 4}}})
    assert "all" not in out


@hybrid
def test_cpu_quota(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"cpu": {"quota": 5000, "period": 100000, "shares": 512}}})
    lab.exec("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    cpu = TOP / "cpu" / "pyruntime" / "p1"
    stat = dict(line.split() for line in (cpu / "cpu.stat").read_text().splitlines())
    assert int(stat["nr_throttled"]) > 0 and (cpu / "cpu.shares").read_text() == "512\n"


def test_devices_denied(lab: Lab) -> None:
    devices = [{"path": "/dev/denied", "type": "c", "major": 10, "minor": 200}]
    out = lab.run("(head -c1 /dev/denied) 2>&1; head -c2 /dev/zero | wc -c", linux={"devices": devices})
    assert "not permitted" in out and out.split()[-1] == "2"


def test_cpuset(lab: Lab) -> None:
    last = max(os.sched_getaffinity(0))
    out = lab.run("grep Cpus_allowed_list /proc/self/status", linux={"resources": {"cpu": {"cpus": str(last)}}})
    assert out.split()[1] == str(last)


def test_unified_of_what_v2_lacks_here_is_refused(lab: Lab) -> None:
    with pytest.raises(Exception, match="unified"):
        lab.create(["true"], linux={"resources": {"unified": {"memory.absent": "1"}}})
    assert not lab.runtime.container_exists("p1")
