"""A signal's handler that raises while a process is made, as Ctrl-C's does."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Lab

from pyruntime import StdioOptions
from pyruntime.native import process
from pyruntime.runtimes import launch

pytestmark = pytest.mark.privileged


class _Interrupted:
    """The native side; the interpreter calls a handler once the call has returned, and before anything is done with its result."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lib, name)

    def spawn_process(self, *arguments: Any) -> int:
        assert self._lib.spawn_process(*arguments) == 0
        raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["create", "exec"])
@pytest.mark.parametrize("when", ["the process was made", "it is known"])
def test_nothing_is_left(lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str, when: str) -> None:
    """The lab looks for descriptors and children."""
    if how == "exec":
        lab.sleeper()
    bundle = lab.bundle(["/bin/sleep", "1000"])

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if when == "the process was made":
            patched.setattr(process, "lib", _Interrupted(process.lib))
        else:
            patched.setattr(launch, "LiveProcess", interrupt)
        with pytest.raises(KeyboardInterrupt):
            if how == "exec":
                lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
            else:
                lab.runtime.create_container("p1", bundle, StdioOptions())
    assert [state.id for state in lab.runtime.list_container_states()] == (["p1"] if how == "exec" else [])
