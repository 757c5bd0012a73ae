"""--version."""

from __future__ import annotations

from pyruntime import __version__
from pyruntime.cli.called import program_name
from pyruntime.native.build import commit
from pyruntime.versions import NEWEST_SPEC


def print_version() -> int:
    """In the lines that engines look for: Docker at `version` and `commit:`, containerd at `spec:`."""
    name = program_name()
    whose = "" if name == "pyruntime" else " (pyruntime)"
    print(f"{name} version {__version__}{whose}\ncommit: {commit()}\nspec: {NEWEST_SPEC}")
    return 0
