"""The command line as a program of its own, which ends at once: nothing that it holds is taken apart first."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

# what importing makes is kept to the end
gc.disable()
# msgspec takes from it what `typing` has too; importing it takes as long as a tenth of a command
sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # so that it is not found
import msgspec  # noqa: E402, F401

del sys.modules["typing_extensions"]


# objects: more than a command makes that does not stay, what it imports later included
_COLLECTION_THRESHOLD = 50_000


def run() -> NoReturn:
    """Never returns."""
    from pyruntime.cli.main import main

    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD)
    gc.enable()
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        os.write(2, f"pyruntime: write output: {error.strerror}\n".encode())
        code = code or 1
    os._exit(code)
