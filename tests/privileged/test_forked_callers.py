"""A caller that forks while other threads of it make processes: the child has a runtime too."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from lab import Lab

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.native import process
from pyruntime.runtimes import stdio


@pytest.mark.parametrize(("module", "name"), [(stdio, "_null_lock"), (process, "_init_lock")], ids=["null", "init"])
def test_a_lock_that_another_thread_held(lab: Lab, module: object, name: str) -> None:
    is_held, is_done = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(module, name):
            is_held.set()
            is_done.wait()

    bundle, root = lab.bundle(["/bin/true"]), str(lab.root)
    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        runtime = NativeRuntime(root)
        runtime.create_container("p2", bundle, StdioOptions())
        runtime.start_container("p2")
        code = runtime.wait_on_container("p2").exit_code
        runtime.delete_container("p2")
        os._exit(code)
    is_done.set()
    holder.join()
    assert os.waitpid(pid, 0)[1] == 0
