"""Exit statuses of children, and of processes that are somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from pyruntime.host import read_host
from pyruntime.interface import ProcessExitState
from pyruntime.runtimes.reaper import WatchedProcess, _read_kept
from pyruntime.testing import HostSnapshot

# Makes a child that ends with 7 when its standard input ends; reaps it after a line on its own.
PARENT = """
import os, sys
read, write = os.pipe()
child = os.fork()
if not child:
    os.close(write)
    os.read(read, 1)
    os._exit(7)
os.close(read)
print(child, flush=True)
sys.stdin.readline()
os.close(write)
if sys.argv[1] == "reap":
    os.waitpid(child, 0)
else:
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print("done", flush=True)
sys.stdin.readline()
"""


def spawn_child(*args: str) -> int:
    """A child that nobody but a WatchedProcess waits for."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", *args], os.environ)


def test_exit_code_and_usage() -> None:
    exit_state = WatchedProcess(spawn_child("exit 9")).wait()
    assert exit_state is not None
    assert (exit_state.exit_code, exit_state.signal) == (9, None)
    assert exit_state.peak_memory_bytes is not None and exit_state.peak_memory_bytes > 100_000
    assert exit_state.user_seconds is not None and exit_state.system_seconds is not None


def test_signal() -> None:
    process = WatchedProcess(spawn_child("exec sleep 1000"))
    assert not process.has_ended
    process.send_signal(signal.SIGKILL)
    exit_state = process.wait()
    assert exit_state is not None and (exit_state.exit_code, exit_state.signal) == (137, 9)
    assert process.has_ended
    with pytest.raises(ProcessLookupError):
        process.send_signal(0)


def test_every_waiter_gets_the_status() -> None:
    process = WatchedProcess(spawn_child("exec sleep 1000"))
    found: list[ProcessExitState | None] = []
    waiters = [threading.Thread(target=lambda: found.append(process.wait())) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    process.send_signal(signal.SIGTERM)
    for waiter in waiters:
        waiter.join(10)
    assert [state.exit_code if state else None for state in found] == [143] * 5


def test_pid_that_is_not_there() -> None:
    for pid in (0, 4194304):
        process = WatchedProcess(pid)
        assert process.has_ended and process.wait() is None


def test_many_leave_nothing() -> None:
    WatchedProcess(spawn_child("true")).wait()  # the epoll stays
    before = HostSnapshot.take()
    processes = [WatchedProcess(spawn_child(f"exit {code}")) for code in range(40)]
    assert [state.exit_code if (state := process.wait()) else None for process in processes] == list(range(40))
    assert HostSnapshot.take().descriptors == before.descriptors
    assert HostSnapshot.take().children == before.children


@pytest.mark.parametrize("reaped", [True, False])
def test_child_of_another(reaped: bool) -> None:
    """Reaped by its parent, the kernel tells from 6.15 on; as a zombie, /proc does to root."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, "reap" if reaped else "leave"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdin is not None and parent.stdout is not None
        pid = int(parent.stdout.readline())
        process, pidfd = WatchedProcess(pid), os.pidfd_open(pid)
        try:
            assert not process.has_ended
            parent.stdin.write("\n")
            parent.stdin.flush()
            exit_state = process.wait()
            assert parent.stdout.readline() == "done\n"
            kept = _read_kept(pidfd)
        finally:
            os.close(pidfd)
            parent.stdin.write("\n")
    keeps = read_host().kernel >= (6, 15)
    assert kept == (ProcessExitState(7) if keeps and reaped else None)
    if os.geteuid() == 0 and (keeps or not reaped):
        assert exit_state == ProcessExitState(7)
    else:
        assert exit_state in (None, ProcessExitState(7))
