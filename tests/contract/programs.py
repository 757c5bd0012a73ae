"""Programs that the contract needs on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CGROUP_ROOT = Path("/sys/fs/cgroup")
# of this run: another one on the host may have the same pid, in a pid namespace of its own
RUN = f"{os.getpid()}x{os.urandom(4).hex()}"


def contract_path(id: str) -> str:
    """A cgroups path that no other run of the tests uses."""
    return f"/pyruntime-contract/{RUN}-{id}"


def require_program(name: str) -> None:
    """A failure, unless PYRUNTIME_ALLOW_MISSING=1 outside of CI makes it a skip."""
    if shutil.which(name):
        return
    message = f"{name} is not installed: apt-get install {name}"
    if os.environ.get("PYRUNTIME_ALLOW_MISSING") == "1" and os.environ.get("CI") != "true":
        pytest.skip(message)
    pytest.fail(message)


@pytest.fixture(scope="session")
def hugetlb_hierarchy() -> Iterator[None]:
    """On a host with v1 hierarchies, crun wants each controller that the kernel has to be mounted."""
    point = CGROUP_ROOT / "hugetlb"
    is_v1 = (CGROUP_ROOT / "pids").is_dir() and not (CGROUP_ROOT / "cgroup.controllers").exists()
    if not is_v1 or not _is_unmounted_controller("hugetlb"):
        yield
        return
    is_new = not point.exists()  # an engine may have taken the place for a hierarchy and made directories
    point.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", str(point)], check=True)
        try:
            yield
        finally:
            # a hierarchy that still has cgroups outlives its unmounting
            for parent in point.glob("*/"):
                parent.rmdir()
            subprocess.run(["umount", str(point)], check=True)
    finally:
        if is_new:
            point.rmdir()


def _is_unmounted_controller(name: str) -> bool:
    """Whether the kernel has it (cgroups(7), /proc/cgroups), but it is not mounted."""
    fields = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    mounted = any(" - cgroup " in line and name in line.split()[-1].split(",")
                  for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return not mounted and any(field[0] == name and field[3] == "1" for field in fields)
