"""The contract on the native engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyruntime import NativeRuntime
from pyruntime.testing import ContainerContract

pytestmark = pytest.mark.privileged


class TestNative(ContainerContract):
    """With what the specification leaves open."""

    differences = {"changes-directory-at-create": "so that everything but the program itself is known to work when create returns"}

    def new_runtime(self, root: Path) -> NativeRuntime:
        return NativeRuntime(str(root))
