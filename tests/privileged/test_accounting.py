"""What a process used, against programs whose use is known."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

import pytest
from lab import NAMESPACES, Lab, namespaces

from pyruntime import ProcessExitState, StdioOptions

MIB = 1 << 20
BLOCK = 96 * MIB
# touches every page of the block, as reading into it does
ALLOCATES = ["/bin/dd", "if=/dev/zero", "of=/dev/null", f"bs={BLOCK}", "count=1"]
BURNS = ["/bin/sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"]
# small on its own; what the caller holds must not be counted as the container's
SMALL = ["/bin/true"]
WITHOUT_PID = {"linux": {"namespaces": namespaces(*(name for name in NAMESPACES if name != "pid"))}}
HOW = pytest.mark.parametrize(("how", "changes"), [("init", {}), ("exec", {}), ("init", WITHOUT_PID), ("exec", WITHOUT_PID)],
                              ids=["init", "exec", "init-shared", "exec-shared"])


def run(lab: Lab, how: str, changes: dict[str, Any], args: list[str]) -> tuple[ProcessExitState, float]:
    """How it ended, and the seconds that it took."""
    if how == "exec":
        lab.sleeper(**changes)
    begin = time.monotonic()
    if how == "init":
        state = lab.run_state(args, **changes)[1]
    else:
        pid = lab.runtime.exec_process("p1", {"args": args, "cwd": "/"}, StdioOptions())
        state = lab.runtime.wait_on_process("p1", pid)
    return state, time.monotonic() - begin


def assert_hidden(how: str, changes: dict[str, Any], peak_bytes: int) -> None:
    """The kernel counts what the caller used as the process's own; for init the cgroup tells, for an exec process nothing."""
    assert how == "exec" and changes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 >= peak_bytes


@HOW
def test_peak_memory(lab: Lab, how: str, changes: dict[str, Any]) -> None:
    state, _ = run(lab, how, changes, ALLOCATES)
    assert state.exit_code == 0
    if state.peak_memory_bytes is None:
        assert_hidden(how, changes, BLOCK)
    else:
        assert BLOCK <= state.peak_memory_bytes < BLOCK + 16 * MIB


@HOW
def test_peak_memory_is_not_the_callers(lab: Lab, how: str, changes: dict[str, Any]) -> None:
    held = bytearray(os.urandom(1)) * (64 * MIB)
    state, _ = run(lab, how, changes, SMALL)
    assert held and state.exit_code == 0
    if state.peak_memory_bytes is None:
        assert_hidden(how, changes, 64 * MIB)
    else:
        assert 0 < state.peak_memory_bytes < 16 * MIB


@HOW
def test_processor_time(lab: Lab, how: str, changes: dict[str, Any]) -> None:
    state, took = run(lab, how, changes, BURNS)
    assert state.user_seconds is not None and state.system_seconds is not None
    # one thread: no more than the time that went by, and this loop does nothing else than compute
    assert 0.02 < state.user_seconds + state.system_seconds <= took + 0.02
    assert state.user_seconds > state.system_seconds
    if how == "init":
        return
    idle, _ = run_idle(lab)
    assert idle.user_seconds is not None and idle.user_seconds < state.user_seconds / 3


def run_idle(lab: Lab) -> tuple[ProcessExitState, float]:
    """A process that sleeps uses no time; what the others used is not its own."""
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "0.1"], "cwd": "/"}, StdioOptions())
    return lab.runtime.wait_on_process("p1", pid), 0.1


def test_children_that_were_waited_for_count(lab: Lab) -> None:
    lab.sleeper()
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sh", "-c", " ".join(ALLOCATES) + "; exit 3"], "cwd": "/",
                                          "env": ["PATH=/bin"]}, StdioOptions())
    state = lab.runtime.wait_on_process("p1", pid)
    assert state.exit_code == 3 and state.peak_memory_bytes is not None
    assert BLOCK <= state.peak_memory_bytes < BLOCK + 16 * MIB
