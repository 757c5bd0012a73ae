"""The command line as a program of its own, which ends at once: nothing that it holds is taken apart first."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from pyruntime.cli.imports import prepare

# objects: more than a command makes that does not stay, what it imports later included
_COLLECTION_THRESHOLD = 50_000


def run() -> NoReturn:
    """Never returns."""
    prepare()
    from pyruntime.cli.failures import explain
    from pyruntime.cli.log import Log
    from pyruntime.cli.main import main

    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD)
    gc.enable()
    code = 1
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _end_unread()
    except OSError as error:
        Log().error(f"write output: {explain(error)}")
        code = code or 1
    os._exit(code)


def _end_unread() -> NoReturn:
    """As a program ends that does not ignore SIGPIPE, as the interpreter does, when nobody reads its standard output any more."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # where it is blocked
