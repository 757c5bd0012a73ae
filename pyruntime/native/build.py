"""What the extension was built of."""

from __future__ import annotations

from pyruntime._native import ffi, lib


def commit() -> str:
    """As git describes it; "unknown" if the sources were no checkout."""
    return bytes(ffi.string(ffi.cast("char *", lib.build_commit))).decode()
