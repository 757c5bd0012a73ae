"""The contract suite for implementations of Runtime, for pytest, and what it is made of.

    from pyruntime.testing import ContainerContract

    class TestMine(ContainerContract):
        def new_runtime(self, root):
            return MyRuntime(str(root))
"""

import importlib
import sys
from typing import TYPE_CHECKING

from pyruntime.testing.bundles import default_config, find_busybox, make_bundle, make_rootfs
from pyruntime.testing.snapshot import HostSnapshot

if TYPE_CHECKING:
    from pyruntime.testing.case import KNOWN_DIFFERENCES, Case
    from pyruntime.testing.contract import ContainerContract, RuntimeContract

__all__ = ["KNOWN_DIFFERENCES", "Case", "ContainerContract", "HostSnapshot", "RuntimeContract", "default_config",
           "find_busybox", "make_bundle", "make_rootfs"]

# what needs pytest, which who makes a bundle only need not have
_OF_PYTEST = {"KNOWN_DIFFERENCES": "case", "Case": "case", "ContainerContract": "contract", "RuntimeContract": "contract"}
_REWRITTEN = ("case", "failures", "kernel", "life_cycle", "processes", "statuses", "stdio", "stress")


def _rewrite_asserts() -> None:
    """Have pytest explain what failed, which it can only before the modules are imported."""
    import pytest

    pytest.register_assert_rewrite(*(f"pyruntime.testing.{module}" for module in _REWRITTEN))


if sys.modules.get("pytest"):
    _rewrite_asserts()


def __getattr__(name: str) -> object:
    if name not in _OF_PYTEST:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not sys.modules.get("pytest"):
        _rewrite_asserts()
    value = globals()[name] = getattr(importlib.import_module(f"pyruntime.testing.{_OF_PYTEST[name]}"), name)
    return value
