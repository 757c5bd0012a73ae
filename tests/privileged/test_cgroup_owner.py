"""Whose a container's cgroup is, on the host and in the container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, cgroup_file, is_unified, namespaces, with_mounts

MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}


def changes(*options: str, kinds: tuple[str, ...] = (*NAMESPACES, "user"), **other: Any) -> dict[str, Any]:
    mounts = [mount for mount in with_mounts() if mount["destination"] != "/sys/fs/cgroup"]
    return {"mounts": [*mounts, {**MOUNT, "options": list(options)}], **other,
            "linux": {"namespaces": namespaces(*kinds), "resources": {"pids": {"limit": 77}}, **(MAPS if "user" in kinds else {})}}


def owners(id: str = "p1") -> dict[str, int]:
    """By file; '' is the directory."""
    directory = cgroup_file("pids", "", "", id)
    return {"": directory.stat().st_uid, **{path.name: path.stat().st_uid for path in directory.iterdir() if path.is_file()}}


def delegated() -> set[str]:
    """What the kernel lists, as far as a cgroup has it."""
    listed = Path("/sys/kernel/cgroup/delegate")
    return {"", *(listed.read_text().split() if listed.exists() else ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"))}


@pytest.mark.conformance(36)
@pytest.mark.parametrize("uid", [0, 7])
def test_the_containers_process_owns_it(reachable: Lab, uid: int) -> None:
    """On v2; there it can make cgroups of its own, and its limits stay root's."""
    own = "/sys/fs/cgroup" if is_unified() else "/sys/fs/cgroup/pids"
    script = f"mkdir {own}/inner && echo 0 >{own}/inner/cgroup.procs && echo made; echo 1000 >{own}/pids.max || cat {own}/pids.max"
    process = {"user": {"uid": uid, "gid": 0}}
    reachable.sleeper(**changes("rw", process=process))
    found = owners()
    given = {name for name, owner in found.items() if owner == 100000 + uid}
    assert given == (delegated() & found.keys() if is_unified() else set()) and "pids.max" not in given
    assert {owner for name, owner in found.items() if name not in given} == {0}
    reachable.runtime.delete_container("p1", force=True)
    out = reachable.run(f"({script}) 2>/dev/null", **changes("rw", process=process)).split()
    assert out == (["made", "77"] if is_unified() else ["77"])


@pytest.mark.conformance(36)
@pytest.mark.parametrize(("options", "kinds"), [
    (("ro",), (*NAMESPACES, "user")), (("rw",), (*(name for name in NAMESPACES if name != "cgroup"), "user")), (("rw",), NAMESPACES)], ids=str)
def test_nobody_else_does(reachable: Lab, options: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Where it is read-only, or shown in a namespace that is shared, or where the container's root is the host's."""
    reachable.sleeper(**changes(*options, kinds=kinds))
    assert set(owners().values()) == {0}


@pytest.mark.conformance(36)
def test_a_user_of_the_host(lab: Lab) -> None:
    lab.sleeper(**changes("rw", kinds=NAMESPACES, process={"user": {"uid": 7, "gid": 0}}))
    found = owners()
    assert {name for name, owner in found.items() if owner == 7} == (delegated() & found.keys() if is_unified() else set())
