"""--version."""

from __future__ import annotations

from pyruntime import __version__
from pyruntime.versions import NEWEST_SPEC


def print_version() -> int:
    """In the lines that engines look for: Docker at `version`, containerd at `spec:`."""
    print(f"pyruntime version {__version__}\nspec: {NEWEST_SPEC}")
    return 0
