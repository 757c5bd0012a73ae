"""The command line as a program of its own, which ends at once: nothing that it holds is taken apart first."""

from __future__ import annotations

import gc
import os
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

from pyruntime.cli.finder import PackageFinder

# what importing makes is kept to the end
gc.disable()
sys.meta_path.insert(0, PackageFinder)
# what msgspec imports for next to nothing: of `typing_extensions` it uses what `typing` has too, and `uuid`, which it imports, asks `platform`
# for the system's name alone
_STAND_INS: dict[str, Any] = {"typing_extensions": None, "platform": SimpleNamespace(system=lambda: os.uname().sysname)}
_absent = _STAND_INS.keys() - sys.modules.keys()
sys.modules.update((name, _STAND_INS[name]) for name in _absent)  # None is not found
import msgspec  # noqa: E402, F401

for _name in _absent:
    del sys.modules[_name]


# objects: more than a command makes that does not stay, what it imports later included
_COLLECTION_THRESHOLD = 50_000


def run() -> NoReturn:
    """Never returns."""
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
        from pyruntime.cli.failures import words_of

        os.write(2, f"pyruntime: write output: {words_of(error.errno or 0)}\n".encode())
        code = code or 1
    os._exit(code)


def _end_unread() -> NoReturn:
    """As a program ends that does not ignore SIGPIPE, as the interpreter does, when nobody reads its standard output any more."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # where it is blocked
