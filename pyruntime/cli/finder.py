"""Where this package's own modules are. Python lists each directory, and tries in it the names of all kinds of files that a module may be; here
it is a source or a package, beside its parent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType

_PREFIX = f"{__name__.partition('.')[0]}."


class PackageFinder:
    """One of sys.meta_path (importlib.abc.MetaPathFinder). What it does not find, as the extension, is left to those after it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """None for what is not a source of this package."""
        if not name.startswith(_PREFIX) or not path:
            return None
        place = f"{path[0]}/{name.rpartition('.')[2]}"
        file, is_package = f"{place}.py", False
        if not os.path.exists(file):
            file, is_package = f"{place}/__init__.py", True
            if not os.path.exists(file):
                return None
        spec = ModuleSpec(name, SourceFileLoader(name, file), origin=file, is_package=is_package)
        spec.has_location = True  # __file__, and the bytecode's place
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(place)
        return spec
