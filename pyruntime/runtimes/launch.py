"""From an encoded plan to a process that runs."""

from __future__ import annotations

import resource
from collections.abc import Callable

from pyruntime.interface import StdioOptions
from pyruntime.native import process as native
from pyruntime.native.encoder import EncodedPlan
from pyruntime.native.process import Spawned
from pyruntime.runtimes.listener import PassOn
from pyruntime.runtimes.live import LiveProcess
from pyruntime.runtimes.stdio import PreparedStdio


def launch(encoded: EncodedPlan, id: str, options: StdioOptions, until: int, note: Callable[[int, int], None],
           descriptors: tuple[int, ...] = (), move_devices: Callable[[int], None] | None = None,
           run_hooks: Callable[[], None] | None = None, pass_on: PassOn | None = None) -> LiveProcess:
    """Make a process; it is ready when this returns (`until` MESSAGE_READY), or executes its program (MESSAGE_EXECUTING).

    note        is told pid and start time: while the init of a container is still at work, or once the program is executed
    move_devices   is given a pidfd of the init, which waits in its network namespace, where the plan has `net_devices`
    run_hooks   what the init waits for, where the plan `awaits_hooks`
    pass_on     is given the listener of a filter that has one
    Raises SetupError; nothing of the process is left then, except what `note` did.
    """
    stdio = PreparedStdio(options)
    spawned: Spawned | None = None
    start_time: int | None = None
    try:
        spawned = native.spawn(encoded, id, stdio.child, descriptors)
        # what the kernel counts as the peak of a process that was made by CLONE_VM; asked for now, since making it takes memory too
        is_of_caller = not (encoded.plan.hands_over or encoded.plan.is_relayed)
        callers_peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if is_of_caller else 0
        stdio.close_child_ends()
        if move_devices is not None and spawned.await_network():
            move_devices(spawned.pidfd)
            spawned.release()
        # one that waits for its start is noted meanwhile; one that executes at once is not kept waiting
        if until == native.MESSAGE_READY and (not encoded.plan.hands_over or spawned.await_successor()):
            start_time = _note(spawned, note)
        if run_hooks is not None and encoded.plan.awaits_hooks and spawned.await_hooks():
            run_hooks()
            spawned.release()
        spawned.follow(until, pass_on, _schedule_of(encoded))
        if start_time is None:
            start_time = _note(spawned, note)
        pipes = stdio.take_pipes(spawned.console)
        spawned.take_console()
        live = LiveProcess(spawned.pid, start_time, spawned.pidfd, pipes, callers_peak_bytes)
        spawned.take_pidfd()
    except BaseException:
        stdio.close()
        if spawned is not None:
            spawned.discard()
        raise
    return live


def _schedule_of(encoded: EncodedPlan) -> Callable[[int], None] | None:
    scheduling = encoded.plan.scheduling
    if scheduling is None:
        return None
    # for the few that need it
    from pyruntime.native.scheduling import schedule

    return lambda pid: schedule(pid, scheduling)


def _note(spawned: Spawned, note: Callable[[int, int], None]) -> int:
    start_time = native.start_time(spawned.pid)
    note(spawned.pid, start_time)
    return start_time
