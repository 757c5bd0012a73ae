"""What all tests leave."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import pyruntime
from pyruntime import _native
from pyruntime.cgroups import remove_empty_parent


def pytest_report_header() -> str:
    return f"pyruntime from {os.path.dirname(pyruntime.__file__)}"


def pytest_configure() -> None:
    """`make test-sanitized` is worth nothing if it tests the usual build."""
    if os.environ.get("PYRUNTIME_SANITIZED") == "1":
        with open("/proc/self/maps") as maps:
            loaded = maps.read()
        assert "libasan" in loaded and "/build/sanitized/" in _native.__file__, "this is not the sanitized build"


@pytest.fixture(scope="session", autouse=True)
def _no_cgroups_left() -> Iterator[None]:
    """Deleting a container leaves the parent of its cgroups."""
    yield
    if os.geteuid() == 0:
        for parent in ("/pyruntime", "/pyruntime-contract"):
            remove_empty_parent(parent)  # and where another run is under way it is not empty
