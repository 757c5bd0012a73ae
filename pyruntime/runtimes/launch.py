"""From an encoded plan to a process that runs."""

from __future__ import annotations

import resource
from collections.abc import Callable

from pyruntime.interface import StdioOptions
from pyruntime.native import process as native
from pyruntime.native.encoder import EncodedPlan
from pyruntime.native.process import Spawned
from pyruntime.runtimes.identity import read_stat
from pyruntime.runtimes.live import LiveProcess
from pyruntime.runtimes.stdio import PreparedStdio


def launch(encoded: EncodedPlan, id: str, options: StdioOptions, until: int, note: Callable[[int, int], None],
           descriptors: tuple[int, ...] = ()) -> LiveProcess:
    """Make a process; it is ready when this returns (`until` MESSAGE_READY), or executes its program (MESSAGE_EXECUTING).

    note   is told pid and start time as soon as they are known, while the init is still at work
    Raises SetupError; nothing of the process is left then, except what `note` did.
    """
    hands_over = encoded.plan.hands_over
    # what the kernel counts as the peak of a process that was made by CLONE_VM
    callers_peak_bytes = 0 if hands_over else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    stdio = PreparedStdio(options)
    spawned: Spawned | None = None
    try:
        spawned = native.spawn(encoded, id, stdio.child, descriptors)
        stdio.close_child_ends()
        start_time = 0
        if not hands_over or native.await_successor(spawned):
            start_time = _start_time(spawned.pid)
            note(spawned.pid, start_time)
        native.follow(spawned, until)
        pipes = stdio.take_pipes(spawned.console)
        spawned.console = -1
    except BaseException:
        stdio.close()
        if spawned is not None:
            native.discard(spawned)
        raise
    live = LiveProcess(spawned.pid, start_time, spawned.pidfd, pipes, callers_peak_bytes)
    spawned.pidfd = -1
    spawned.close()
    return live


def _start_time(pid: int) -> int:
    stat = read_stat(pid)
    return stat[1] if stat else 0
