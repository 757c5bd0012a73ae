"""What all tests leave."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pyruntime.cgroups import remove_empty_parent


@pytest.fixture(scope="session", autouse=True)
def _no_cgroups_left() -> Iterator[None]:
    """Deleting a container leaves the parent of its cgroups."""
    yield
    if os.geteuid() == 0:
        for parent in ("/pyruntime", "/pyruntime-contract"):
            remove_empty_parent(parent)  # and where another run is under way it is not empty
