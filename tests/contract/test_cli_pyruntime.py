"""The contract on this project's own command line."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from programs import contract_path

from pyruntime import CliRuntime
from pyruntime.testing import ContainerContract

pytestmark = pytest.mark.privileged
COMMAND = f"{sysconfig.get_path('scripts')}/pyruntime"


class TestPyruntime(ContainerContract):
    """As it is installed beside the interpreter that runs the tests."""

    proves_conformance = True
    differences = {
        "fails-at-create": "as with runc and crun: engines tell from the failure of create that there is no such program",
        "own-exec-only": "the command line has no list of exec processes",
    }

    def new_runtime(self, root: Path) -> CliRuntime:
        return CliRuntime(COMMAND, str(root))

    def cgroups_path(self, id: str) -> str:
        # the default one has nothing but the id, which other runs of the tests have too
        return contract_path(id)
