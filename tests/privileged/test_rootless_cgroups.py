"""A user's containers in a cgroup that is delegated: they can be paused and limited, and write to none that is not theirs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from delegation import CGROUPS, FORKS, Delegated
from lab import is_unified

from pyruntime.spec.default_config import rootless_config

pytestmark = pytest.mark.privileged
MIB = 1 << 20
LIMITS = {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "pids": {"limit": 20}, "cpu": {"quota": 50000, "period": 100000}}


@pytest.mark.conformance(34)
def test_it_is_paused_and_listed(delegated: Delegated) -> None:
    delegated.run_detached("sleep 100000 & wait")
    state = json.loads(delegated.succeed("state", "c1"))
    own = next(line for line in Path(f"/proc/{state['pid']}/cgroup").read_text().splitlines() if line.startswith("0::"))
    assert CGROUPS / own.removeprefix("0::/") == delegated.path / "pyruntime" / "c1"
    assert len(json.loads(delegated.succeed("ps", "-f", "json", "c1"))) == 2
    delegated.succeed("pause", "c1")
    assert json.loads(delegated.succeed("state", "c1"))["status"] == "paused" and delegated.containers_file("cgroup.freeze") == "1"
    delegated.succeed("resume", "c1")
    assert "0::/\n" in delegated.succeed("exec", "c1", "cat", "/proc/self/cgroup")
    delegated.succeed("delete", "--force", "c1")
    assert not (delegated.path / "pyruntime" / "c1").exists()


@pytest.mark.parametrize("option", ["ro", "rw"])
@pytest.mark.parametrize("has_namespace", [True, False])
def test_its_cgroup_is_shown(delegated: Delegated, option: str, has_namespace: bool) -> None:
    """CVE-2023-25809: to be written in a namespace of its own alone, since who is root in the container owns what is beside it."""
    config = rootless_config(0, 0)
    config["mounts"][6]["options"] = [option]
    kinds = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup" or has_namespace]
    script = "ls /sys/fs/cgroup | grep -c cgroup.procs; mkdir /sys/fs/cgroup/x && echo made"
    ended = delegated.command("run", "-b", delegated.user.bundle(script, mounts=config["mounts"], linux={"namespaces": kinds}), "c1")
    assert ended.stdout.split() == (["1", "made"] if option == "rw" and has_namespace else ["1"]), ended
    assert ("Read-only file system" in ended.stderr) == (ended.returncode != 0)


def test_a_cgroup_that_is_not_delegated(delegated: Delegated) -> None:
    ended = delegated.command("run", "-b", delegated.user.bundle("true", linux={"cgroupsPath": "/somewhere/c1"}), "c1")
    assert ended.returncode == 1 and "make cgroup" in ended.stderr and "delegated" in ended.stderr and "EACCES" in ended.stderr
    assert not (CGROUPS / "somewhere").exists() and not (delegated.user.root / "c1").exists()


@pytest.mark.conformance(34, 38, 44)
def test_limits_bind_where_the_controllers_are_delegated(delegated: Delegated) -> None:
    """On a hybrid host v2 has none of them: an error that says so."""
    if not is_unified():
        ended = delegated.command("run", "-b", delegated.user.bundle("true", linux={"resources": LIMITS}), "c1")
        assert ended.returncode == 1 and "$.linux.resources." in ended.stderr and "not passed on" in ended.stderr, ended
        assert not (delegated.user.root / "c1").exists()
        return
    delegated.run_detached("sleep 100000", linux={"resources": LIMITS})
    assert [delegated.containers_file(name) for name in ("memory.max", "pids.max", "cpu.max")] == [str(64 * MIB), "20", "50000 100000"]
    killed = delegated.command("exec", "c1", "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
    assert killed.returncode == 137 and "oom_kill 0" not in delegated.containers_file("memory.events"), killed
    limits = delegated.user.directory / "limits.json"
    limits.write_text('{"pids": {"limit": 15}}')
    delegated.succeed("update", "-r", str(limits), "c1")
    assert delegated.containers_file("pids.max") == "15"
    refused = delegated.command("exec", "c1", "sh", "-c", FORKS)
    assert refused.returncode != 0 and "fork" in refused.stderr and delegated.containers_file("pids.events").split()[1] != "0", refused
