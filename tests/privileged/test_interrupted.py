"""A create whose caller is killed, and a state that is lost: what is left can be deleted, and then nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter

import pytest
from interruption import CGROUPS_PATH, cgroups, end_of
from lab import NAMESPACES, Lab, namespaces

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import ContainerNotFoundError
from pyruntime.runtimes.reaper import children_of_this_process

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("orphanage")]

# where a caller can be: the function that it is about to call, or has called, of all those that a create consists of
MOMENTS = {
    "before the directory is made": ("Store", "add", "before"),
    "the directory is made": ("Store", "add", "after"),
    "before the first process": ("native", "spawn", "before"),
    "the first process is at work": ("native", "spawn", "after"),
    "before the record is written": ("Store", "prepare", "before"),
    "the record is written": ("Store", "prepare", "after"),
    "the first process waits for the start": ("Store", "commit", "before"),
    "the record counts": ("Store", "commit", "after"),
}
CALLER = """
import os, signal, sys
from pyruntime import NativeRuntime, StdioOptions
from pyruntime.native import process as native
from pyruntime.state import Store
root, bundle, owner, name, when = sys.argv[1:]
runtime = NativeRuntime(root)
if owner:
    owner = {"Store": Store, "native": native}[owner]
    original = getattr(owner, name)
    def interrupted(*arguments):
        if when == "after":
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, interrupted)
print("begins", flush=True)
runtime.create_container("p1", bundle, StdioOptions())
print("created", flush=True)
signal.pause()
"""


def interrupt(lab: Lab, bundle: str, moment: tuple[str, str, str], delay_s: float | None = None) -> tuple[str, list[str]]:
    """Kill a caller that creates p1 and delete that; how far the caller was, and what is left, which is removed."""
    before = set(children_of_this_process())
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(lab.root), bundle, *moment], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    with caller.stdout:
        assert caller.stdout.readline() == b"begins\n"
        if delay_s is not None:
            select.select([caller.stdout], [], [], delay_s)  # at most so long
            caller.kill()
        assert caller.wait() == -signal.SIGKILL
    reached = "directory" if lab.runtime.container_exists("p1") else "nothing"
    listed = lab.runtime.list_container_states()
    assert [(state.id, state.status) for state in listed] in ([], [("p1", "created")])
    if listed:
        reached = "container"
    try:
        lab.runtime.delete_container("p1", force=True)
    except ContainerNotFoundError:
        assert reached == "nothing"
    # processes that were on their way out need not be known to anybody
    left = [f"cgroup {path}" for path in cgroups()]
    left += end_of(set(children_of_this_process()) - before)
    left += [f"file {path}" for path in lab.root.iterdir()]
    for path in cgroups():
        path.rmdir()
    return reached, left


@pytest.fixture
def bundle(lab: Lab) -> str:
    return lab.bundle(["/bin/sleep", "1000"], linux={"cgroupsPath": CGROUPS_PATH})


@pytest.mark.parametrize("moment", MOMENTS)
def test_caller_is_killed(lab: Lab, bundle: str, moment: str) -> None:
    reached, left = interrupt(lab, bundle, MOMENTS[moment])
    assert left == []
    assert reached == {"before the directory is made": "nothing", "the record counts": "container"}.get(moment, "directory")


def test_caller_is_killed_at_any_time(lab: Lab, bundle: str) -> None:
    """Also within system calls, and while the first process makes namespaces."""
    chance = random.Random(0)
    reached: Counter[str] = Counter()
    for _ in range(60):
        delay_s = chance.uniform(0, 0.006)
        how_far, left = interrupt(lab, bundle, ("", "", ""), delay_s)
        assert left == [], f"after {delay_s} s, where there was a {how_far}"
        reached[how_far] += 1
    assert reached["directory"] > 0, f"no create was interrupted: {reached}"


@pytest.mark.parametrize("shares", [False, True], ids=["own_pid_namespace", "shared_pid_namespace"])
@pytest.mark.parametrize("who", ["creator", "another"])
@pytest.mark.parametrize("damage", [b"", b"{", b'{"id": "p1"}', None], ids=["empty", "cut", "incomplete", "missing"])
def test_running_container_whose_state_is_lost(lab: Lab, damage: bytes | None, who: str, shares: bool) -> None:
    """Deleting by force kills it and removes its cgroups, wherever they are."""
    kinds = [kind for kind in NAMESPACES if kind != "pid" or not shares]
    init = lab.sleeper(linux={"cgroupsPath": CGROUPS_PATH, "namespaces": namespaces(*kinds)})
    other = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    descriptors = [os.pidfd_open(pid) for pid in (init, other)]
    state = lab.root / "p1" / "state.json"
    if damage is None:
        state.unlink()
    else:
        state.write_bytes(damage)
    try:
        runtime = lab.runtime if who == "creator" else NativeRuntime(str(lab.root))
        runtime.delete_container("p1", force=True)
        assert [bool(select.select([descriptor], [], [], 0)[0]) for descriptor in descriptors] == [True, True], "they go on"
        assert cgroups() == [] and list(lab.root.iterdir()) == []
        assert lab.runtime.list_container_states() == []
    finally:
        lab.runtime.list_container_states()  # forgets a container that is gone
        for descriptor in reversed(descriptors):  # init ends when all of its pid namespace are reaped
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
            os.close(descriptor)
        for path in cgroups():
            path.rmdir()
