"""The contract on the native engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import contract_path

from pyruntime import NativeRuntime
from pyruntime.testing import ContainerContract

pytestmark = pytest.mark.privileged


class TestNative(ContainerContract):
    """With what the specification leaves open."""

    proves_conformance = True
    differences = {"changes-directory-at-create": "so that everything but the program itself is known to work when create returns"}

    def new_runtime(self, root: Path) -> NativeRuntime:
        return NativeRuntime(str(root))

    def cgroups_path(self, id: str) -> str:
        # the default one has nothing but the id, which other runs of the tests have too
        return contract_path(id)
