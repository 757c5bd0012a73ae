"""Signals that a command catches to pass them on: none of them ends it, and what was before is again at the end. In processes of their own, as
a command is: one that has threads would get what is sent to it by another one."""

from __future__ import annotations

import signal
import subprocess
import sys

KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGURG, signal.SIGTTIN, signal.SIGTTOU, 32, 33}
PRELUDE = """
import ctypes, os, resource, select, signal, subprocess
from pyruntime.native.signals import CaughtSignals
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def blocked():
    text = next(line for line in open("/proc/thread-self/status") if line.startswith("SigBlk:"))
    return {number for number in range(1, 65) if int(text.split()[1], 16) >> (number - 1) & 1}
"""


def run(script: str) -> tuple[int, str]:
    ended = subprocess.run([sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, check=False, timeout=30)
    return ended.returncode, ended.stdout


def test_all_but_those_about_the_command_itself() -> None:
    script = """
before = blocked()
with CaughtSignals() as signals:
    print(sorted(set(range(1, 65)) - blocked()))
    for number in sorted(blocked() - {signal.SIGPIPE}):
        os.kill(os.getpid(), number)
        assert select.select([signals], [], [], 0)[0]
        assert (signals.take(), signals.take()) == (number, 0)
print(blocked() == before)
"""
    assert run(script) == (0, f"{sorted(map(int, KEPT))}\nTrue\n")


def test_what_came_too_late_ends_nobody() -> None:
    script = """
with CaughtSignals():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGALRM)
print("goes on")
"""
    assert run(script) == (0, "goes on\n")


def test_a_sigpipe_of_its_own_is_not_for_the_process() -> None:
    """But one that somebody sends is."""
    script = """
with CaughtSignals() as signals:
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    except BrokenPipeError:
        print(signals.take())
    subprocess.run(["kill", "-PIPE", str(os.getpid())], check=True)
    print(signals.take())
"""
    assert run(script) == (0, f"0\n{signal.SIGPIPE.value}\n")


def test_a_fault_ends_the_process_as_ever() -> None:
    """Though its signal is among them."""
    assert run("with CaughtSignals():\n    ctypes.string_at(0)") == (-signal.SIGSEGV, "")
