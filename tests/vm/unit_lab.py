"""Containers that are systemd's units, and what systemd says of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab

from pyruntime import NativeRuntime

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


def systemctl(*arguments: str) -> str:
    return subprocess.run(["systemctl", *arguments], check=True, capture_output=True, text=True).stdout


def show(unit: str, *names: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in systemctl("show", unit, *(f"-p{name}" for name in names)).splitlines())


def is_known(unit: str) -> bool:
    return show(unit, "LoadState")["LoadState"] != "not-found"


def files(cgroup: Path, *names: str) -> list[str]:
    return [(cgroup / name).read_text().strip() for name in names]


def all_units() -> set[str]:
    """Slices apart, which stay as long as they were asked for by name."""
    shown = systemctl("list-units", "--all", "--plain", "--no-legend").splitlines()
    return {line.split()[0] for line in shown if not line.split()[0].endswith(".slice")}


@pytest.fixture
def units(lab: Lab) -> Iterator[Lab]:
    """Containers with units; none is left."""
    before = all_units()
    lab.runtime = NativeRuntime(str(lab.root), systemd_cgroup=True)
    yield lab
    lab.delete_all()
    assert all_units() == before
    assert not list(CGROUPS.rglob("*pyruntime*.scope"))


SCOPE, CGROUP = "pyruntime-p1.scope", CGROUPS / "system.slice" / "pyruntime-p1.scope"
