"""OCI containers from Python without a runtime binary."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pyruntime import notices as notices
from pyruntime.errors import *  # noqa: F403  # the whole error tree is public

if TYPE_CHECKING:
    from pyruntime.doctor import diagnose as diagnose
    from pyruntime.features_document import features as features
    from pyruntime.handles import Container as Container
    from pyruntime.interface import (
        ContainerProcessState,
        ContainerState,
        ProcessExitState,
        Runtime,
        Status,
        StdioOptions,
        StdioPipes,
    )
    from pyruntime.runtimes.cli import CliRuntime
    from pyruntime.runtimes.mock import MockRuntime
    from pyruntime.runtimes.native import NativeRuntime

__version__ = "0.1.0"
__all__ = ["CliRuntime", "ContainerProcessState", "ContainerState", "MockRuntime", "NativeRuntime", "ProcessExitState",
           "Runtime", "Status", "StdioOptions", "StdioPipes"]

# what costs an import that not every user needs, or that the command line orders itself
_INTERFACE = ("ContainerProcessState", "ContainerState", "ProcessExitState", "Runtime", "Status", "StdioOptions", "StdioPipes")
_LAZY = {**dict.fromkeys(_INTERFACE, "pyruntime.interface"), "NativeRuntime": "pyruntime.runtimes.native",
         "CliRuntime": "pyruntime.runtimes.cli", "MockRuntime": "pyruntime.runtimes.mock", "Container": "pyruntime.handles",
         "Process": "pyruntime.handles", "features": "pyruntime.features_document", "diagnose": "pyruntime.doctor"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
