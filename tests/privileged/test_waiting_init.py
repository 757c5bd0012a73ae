"""What a container's init holds while it waits for its start."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime import StdioOptions

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
