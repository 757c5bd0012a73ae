"""A process that is cloned into its cgroup by an init: as everywhere where the v2 cgroup limits memory, and here on any host."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from lab import MAPS, NAMESPACES, Lab, namespaces

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.host import read_host
from pyruntime.native.encoder import EncodedPlan, encode
from pyruntime.plan.operations import Plan
from pyruntime.runtimes import compiled
from pyruntime.testing.bundles import default_config


@pytest.fixture(autouse=True)
def _relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode_relayed(plan: Plan, hole_size: int = 0) -> EncodedPlan:
        assert plan.cgroup is not None
        return encode(msgspec.structs.replace(plan, is_relayed=True), hole_size)

    monkeypatch.setattr(compiled, "encode", encode_relayed)


def unified() -> Path:
    return Path(next(hierarchy.mount_point for hierarchy in read_host().hierarchies if hierarchy.is_v2))


def cgroup_of(pid: int) -> str:
    return next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


def test_whose_child_it_is_and_where(lab: Lab) -> None:
    """And which pid it has; the one that cloned it is gone."""
    pid = lab.sleeper()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(status["PPid"]) == os.getpid() and status["NSpid"].split() == [str(pid), "1"]
    assert cgroup_of(pid) == "0::/pyruntime/p1"
    assert (unified() / "pyruntime/p1/cgroup.procs").read_text().split() == [str(pid)]
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text().split().count(str(pid)) == 1
    assert lab.exec("readlink /proc/self/ns/pid") == lab.exec("readlink /proc/1/ns/pid")


@pytest.mark.parametrize("kinds", [NAMESPACES, ("mount",), (*NAMESPACES, "user")], ids=["usual", "mount", "user"])
def test_namespaces(reachable: Lab, kinds: tuple[str, ...]) -> None:
    """With a user namespace all are made by that clone, which has every capability in it."""
    maps = MAPS if "user" in kinds else {}
    mounts = [mount for mount in default_config()["mounts"] if mount["type"] not in ("sysfs", "cgroup")]
    pid = reachable.sleeper(linux={"namespaces": namespaces(*kinds), **maps}, hostname="h" if "uts" in kinds else None,
                            mounts=mounts, process={"oomScoreAdj": 321})
    for kind in kinds:
        name = {"mount": "mnt", "network": "net"}.get(kind, kind)
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "321\n" != Path("/proc/self/oom_score_adj").read_text()
    if maps:
        assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "100000", "65536"]
    process = {"args": ["/bin/sleep", "1000"], "cwd": "/", "oomScoreAdj": 7}
    other = reachable.runtime.exec_process("p1", process, StdioOptions())
    assert cgroup_of(other) == "0::/pyruntime/p1" and Path(f"/proc/{other}/oom_score_adj").read_text() == "7\n"


@pytest.fixture
def invalid_cgroup() -> Iterator[str]:
    """One that no process can be in: its parent has a threaded child."""
    parent = unified() / "pyruntime-invalid"
    (parent / "threaded").mkdir(parents=True)
    (parent / "threaded/cgroup.type").write_text("threaded")
    yield "/pyruntime-invalid/p1"
    (parent / "threaded").rmdir()
    parent.rmdir()
    for hierarchy in read_host().hierarchies:
        path = Path(hierarchy.mount_point, "pyruntime-invalid")
        if path.exists():
            path.rmdir()


def test_a_cgroup_that_takes_no_process(lab: Lab, invalid_cgroup: str) -> None:
    """What the init is told is the caller's error, and nothing of either process is left."""
    with pytest.raises(SetupError) as caught:
        lab.create("true", linux={"cgroupsPath": invalid_cgroup})
    assert (caught.value.step, caught.value.errno, caught.value.detail) == ("set up the process", errno.EOPNOTSUPP, "clone3")
    assert lab.run("echo fine") == "fine\n"
