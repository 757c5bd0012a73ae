"""What a container's init holds while it waits for its start."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime import Status, StdioOptions
from pyruntime.errors import NotCreatedError
from pyruntime.testing.bundles import without_pid_namespace

USER = {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}
# a filter without noNewPrivileges is there before the wait where the pid namespace is not new
FILTER = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]}
HOOK = [{"path": "/bin/true"}]
CASES: dict[str, dict[str, Any]] = {
    "": {},
    "user": {"linux": USER},
    "no process": {"process": None},
    "terminal": {"process": {"terminal": True}},
    "all hooks": {"hooks": {kind: HOOK for kind in ("createRuntime", "createContainer", "startContainer", "poststart")}},
    "limits": {"linux": {"resources": {"memory": {"limit": 1 << 26}, "pids": {"limit": 20}}}},
    "proc and clocks": {"linux": {"namespaces": namespaces(*NAMESPACES, "time"), "sysctl": {"net.ipv4.ip_forward": "1"},
                                  "timeOffsets": {"monotonic": {"secs": 7}}}},
    "shared pid namespace": {"linux": {"namespaces": namespaces(*(name for name in NAMESPACES if name != "pid")), "seccomp": FILTER},
                             "process": {"noNewPrivileges": False}},
    "filter": {"linux": {"seccomp": FILTER}},
    # one more than the program has
    "few": {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 6, "hard": 6}]}},
}


def descriptors(pid: int) -> dict[int, str]:
    return {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


@pytest.fixture
def preserved() -> Iterator[int]:
    """So many descriptors of this process, from 3 on, are there to be passed on."""
    saved = [os.dup(number) if os.path.exists(f"/proc/self/fd/{number}") else None for number in (3, 4)]
    null = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
    for number in (3, 4):
        os.dup2(null, number)
    os.close(null)
    yield len(saved)
    for number, copy in zip((3, 4), saved, strict=True):
        if copy is None:
            os.close(number)
        else:
            os.dup2(copy, number)
            os.close(copy)


@pytest.mark.conformance(62)
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_descriptors_of_an_init_that_waits(reachable: Lab, volume: Path, preserved: int, changes: dict[str, Any]) -> None:
    """The standard streams, what is passed to the program, and the socket that the start comes by: no directory and no mount."""
    lab = reachable
    mounts = with_mounts(bind(volume, "rbind", "ro"), bind(volume, "bind", "nosuid", to="/other"), {"destination": "/run", "type": "tmpfs"})
    for name in ("other", "run"):
        (lab.rootfs / name).mkdir()
    bundle = lab.bundle(["/bin/sleep", "1000"], **{**changes, "mounts": mounts})
    pid = lab.runtime.create_container("p1", bundle, StdioOptions(preserve_fds=preserved))
    found = descriptors(pid)
    (socket,) = set(found) - set(range(3 + preserved))
    assert set(range(3 + preserved)) < set(found) and found[socket].startswith("socket:["), found
    if changes.get("process", {}) is not None:
        lab.runtime.start_container("p1")
        assert set(descriptors(pid)) == set(range(3 + preserved))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_it_ends_when_it_is_asked_to(lab: Lab, number: int, shared: bool) -> None:
    """As with runc; the kernel by itself would let the first process of a pid namespace go on."""
    lab.create(["/bin/true"], stdio=StdioOptions(), linux=without_pid_namespace() if shared else {})
    lab.runtime.kill_container("p1", number)
    state = lab.runtime.wait_on_container("p1")
    assert (state.exit_code, state.signal) == (128 + number, number if shared else None)
    assert lab.runtime.get_container_state("p1").status is Status.STOPPED
    with pytest.raises(NotCreatedError):
        lab.runtime.start_container("p1")


def test_no_other_signal_ends_it_and_the_program_has_no_handlers(lab: Lab) -> None:
    pid = lab.create(["/bin/sleep", "1000"], stdio=StdioOptions())
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGRTMIN):
        lab.runtime.kill_container("p1", number)
    (caught,) = re.findall(r"SigCgt:\t(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert int(caught, 16) == sum(1 << number - 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))
    lab.runtime.start_container("p1")
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"SigCgt:\t0+\n", status) and re.search(r"SigIgn:\t0+\n", status) and re.search(r"SigBlk:\t0+\n", status)
    lab.runtime.kill_container("p1", signal.SIGTERM)
    assert lab.runtime.get_container_state("p1").status is Status.RUNNING
