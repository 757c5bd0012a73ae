"""What a command that compiles imports, and what it is spared."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import Any

from pyruntime.cli.finder import PackageFinder

# What msgspec imports for types that are nowhere here, for schemata of JSON, or for names that `typing` has too. None is not found.
_SPARED: dict[str, Any] = {
    "decimal": SimpleNamespace(Decimal=type("Decimal", (), {})),
    "uuid": SimpleNamespace(UUID=type("UUID", (), {}), SafeUUID=SimpleNamespace(unknown=None)),
    "msgspec.inspect": SimpleNamespace(),
    "msgspec._json_schema": SimpleNamespace(schema=None, schema_components=None),
    "typing_extensions": None,
}


def prepare() -> None:
    """Before anything else is imported that takes time."""
    gc.disable()  # what importing makes is kept to the end
    sys.meta_path.insert(0, PackageFinder)
    if "msgspec" in sys.modules:
        return
    spared = {name: module for name, module in _SPARED.items() if name not in sys.modules}
    sys.modules.update(spared)
    try:
        import msgspec  # noqa: F401
    except Exception:  # another version may need more of them: it is imported with them where it is used
        for name in [name for name in sys.modules if name.partition(".")[0] == "msgspec"]:
            sys.modules.pop(name)
    for name in spared:
        sys.modules.pop(name, None)
