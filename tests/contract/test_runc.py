"""The contract on runc, by its command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import contract_path, require_program

from pyruntime import CliRuntime
from pyruntime.testing import ContainerContract

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    """runc, from Debian."""
    require_program("runc")


class TestRunc(ContainerContract):
    """Debian's."""

    differences = {
        "fails-at-create": "runc looks for the program before it waits for start",
        "fails-after-exec": "runc waits for the program to be found, not for execve to succeed",
        "poststart-at-create": "runc does so in all releases up to 1.5",
        "other-states-for-hooks": "created, for the poststart hooks",
        "own-exec-only": "the command line has no list of exec processes",
    }

    def new_runtime(self, root: Path) -> CliRuntime:
        return CliRuntime("runc", str(root))

    def cgroups_path(self, id: str) -> str:
        # without one, runc makes the cgroups below the caller's own
        return contract_path(id)
