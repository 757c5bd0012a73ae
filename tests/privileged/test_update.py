"""Limits that are changed while a container runs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from faults import Fault
from lab import Lab, cgroup_file, is_unified

from pyruntime import NativeRuntime
from pyruntime.errors import ContainerNotFoundError, InvalidBundleError, NotRunningError, SetupError, UnsupportedFieldError

MIB = 1 << 20


def limits() -> tuple[str, str, str]:
    """Of memory, of memory with swap (on v2 of swap), of processes."""
    return tuple(cgroup_file(controller, v1, v2).read_text().strip() for controller, v1, v2 in (  # type: ignore[return-value]
        ("memory", "memory.limit_in_bytes", "memory.max"), ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("pids", "pids.max", "pids.max")))


def with_swap(memory: int, swap: int) -> tuple[str, str]:
    return str(memory * MIB), str((swap - memory if is_unified() else swap) * MIB)


def test_up_and_down(lab: Lab) -> None:
    """On v1 each of the two limits of memory has to be written first in one of the directions."""
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    for memory, swap in ((64, 96), (128, 128), (16, 24), (32, 64)):
        lab.runtime.update_container("p1", {"memory": {"limit": memory * MIB, "swap": swap * MIB}})
        assert limits() == (*with_swap(memory, swap), "50")
    lab.runtime.update_container("p1", {"pids": {"limit": 60}, "memory": {"limit": 0}})
    assert limits() == (*with_swap(32, 64), "60")


def test_what_is_not_given_stays(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    before = limits()
    lab.runtime.update_container("p1", {})
    lab.runtime.update_container("p1", b'{"cpu": {"shares": 2048}}')
    assert limits() == before
    assert cgroup_file("cpu", "cpu.shares", "cpu.weight").read_text() == ("174\n" if is_unified() else "2048\n")


def test_a_part_that_fails_takes_all_back(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "pids": {"limit": 50}}})
    before = limits()
    with pytest.raises(SetupError) as caught:
        lab.runtime.update_container("p1", {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"cpus": "4000"}, "pids": {"limit": 9}})
    file = cgroup_file("cpuset", "cpuset.cpus", "cpuset.cpus")
    assert (caught.value.step, caught.value.path, caught.value.json_path) == ("update", str(file), "$.cpu.cpus")
    assert caught.value.errno in (errno.EINVAL, errno.ERANGE)
    assert limits() == before


def test_the_new_limit_binds_also_an_exec(lab: Lab) -> None:
    """One that was not limited at first: what sets an exec up must not count."""
    lab.sleeper()
    lab.runtime.update_container("p1", {"pids": {"limit": 3}})
    for runtime in (NativeRuntime(str(lab.root)), lab.runtime):
        lab.runtime = runtime
        assert lab.exec("/bin/true; echo with one more") == "with one more\n"
    assert lab.exec("/bin/sleep 1 & /bin/sleep 1 & echo with two more") == ""


@pytest.mark.parametrize("change", [Lab.delete_all, lambda lab: lab.runtime.kill_container("p1", 9) or lab.runtime.wait_on_container("p1")])
def test_one_that_does_not_run(lab: Lab, change: Callable[[Lab], None]) -> None:
    lab.sleeper()
    change(lab)
    with pytest.raises((NotRunningError, ContainerNotFoundError)):
        lab.runtime.update_container("p1", {"pids": {"limit": 1}})


def test_created_and_paused(lab: Lab) -> None:
    lab.create(["/bin/sleep", "1000"])
    lab.runtime.update_container("p1", {"pids": {"limit": 11}})
    assert limits()[2] == "11"
    lab.runtime.start_container("p1")
    lab.runtime.pause_container("p1")
    lab.runtime.update_container("p1", {"pids": {"limit": 12}})
    assert limits()[2] == "12"
    lab.runtime.resume_container("p1")


@pytest.mark.parametrize(("resources", "kind", "json_path"), [
    ({"memory": {"limit": "1"}}, InvalidBundleError, "$.memory.limit"),
    ({"memory": {"limit": 8192, "swap": 4096}}, InvalidBundleError, "$.memory.swap"),
    ({"devices": [{"allow": True}]}, UnsupportedFieldError, "$.devices"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, UnsupportedFieldError, "$.hugepageLimits"),
    (b"{", InvalidBundleError, None),
])
def test_what_cannot_be_asked_for(lab: Lab, resources: Any, kind: type[InvalidBundleError], json_path: str | None) -> None:
    lab.sleeper()
    with pytest.raises(kind) as caught:
        lab.runtime.update_container("p1", resources)
    assert (type(caught.value), caught.value.file, caught.value.json_path) == (kind, None, json_path)


def test_a_write_that_the_kernel_refuses(lab: Lab) -> None:
    lab.sleeper(linux={"resources": {"pids": {"limit": 50}}})

    def refused() -> None:
        with pytest.raises(SetupError) as caught:
            lab.runtime.update_container("p1", {"pids": {"limit": 9}})
        assert (caught.value.errno_name, caught.value.json_path) == ("EIO", "$.pids.limit")

    Fault("write", "EIO", {2: 1}).during(refused)
    assert limits()[2] == "50"
