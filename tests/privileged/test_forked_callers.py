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


def test_children_that_are_forked_meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have copies of all descriptors, and the caller waits for the end of what the init writes to."""
    monkeypatch.setattr(process, "SETUP_TIMEOUT_S", 10.0)
    bundle, is_done = lab.bundle(["/bin/true"]), threading.Event()
    children: list[int] = []

    def fork() -> None:
        while not is_done.is_set() and len(children) < 400:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)

    forker = threading.Thread(target=fork)
    forker.start()
    try:
        while forker.is_alive():
            lab.runtime.create_container("p1", bundle, StdioOptions())
            lab.runtime.start_container("p1")
            assert lab.runtime.wait_on_container("p1").exit_code == 0
            lab.runtime.delete_container("p1")
    finally:
        is_done.set()
        forker.join()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert len(children) == 400
