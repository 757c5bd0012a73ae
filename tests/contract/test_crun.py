"""The contract on crun, by its command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import contract_path, require_program

from pyruntime import CliRuntime
from pyruntime.testing import ContainerContract

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module", autouse=True)
def program(hugetlb_hierarchy: None) -> None:
    """crun, from Debian."""
    require_program("crun")


class TestCrun(ContainerContract):
    """Debian's."""

    differences = {
        "fails-at-create": "crun looks for the program before it waits for start",
        "fails-after-exec": "crun waits for the program to be found, not for execve to succeed",
        "fails-without-path": "crun writes `open executable: Permission denied`",
        "other-states-for-hooks": "created, for those that create runs, and in the container the pid 0",
        "no-poststop-after-failed-create": "those are for delete",
        "own-exec-only": "the command line has no list of exec processes",
    }

    def new_runtime(self, root: Path) -> CliRuntime:
        return CliRuntime("crun", str(root))

    def cgroups_path(self, id: str) -> str:
        # without one, crun makes the cgroups below the caller's own
        return contract_path(id)

    def state_file(self, root: Path, id: str) -> Path:
        return root / id / "status"
