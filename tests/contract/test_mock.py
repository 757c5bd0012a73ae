"""The contract on the mock."""

from __future__ import annotations

from pathlib import Path

from pyruntime import MockRuntime
from pyruntime.testing import RuntimeContract


class TestMock(RuntimeContract):
    """As it comes."""

    differences = {"no-state-file": "everything is in memory"}

    def new_runtime(self, root: Path) -> MockRuntime:
        return MockRuntime(str(root))

    def state_file(self, root: Path, id: str) -> None:
        return None
