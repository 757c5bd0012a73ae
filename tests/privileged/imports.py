"""Importing all there is of the package, where nothing can be imported later."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import pyruntime


@functools.cache
def import_all() -> None:
    """Every module, with what it imports itself."""
    for module in pkgutil.walk_packages(pyruntime.__path__, "pyruntime."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
