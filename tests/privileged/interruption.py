"""What is left on the host by something that was killed."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import prctl
import pytest

from pyruntime.host import read_host

CGROUPS_PATH = "/pyruntime/p-interrupted"
# what is killed or has lost its caller ends at once
END_TIMEOUT_S = 2.0


@pytest.fixture
def orphanage() -> Iterator[None]:
    """Whoever loses its parent becomes a child of these tests, and is not overlooked."""
    prctl.set_child_subreaper(1)
    yield
    prctl.set_child_subreaper(0)


def cgroups() -> list[Path]:
    """Those of the path that exist."""
    paths = [Path(hierarchy.mount_point + CGROUPS_PATH) for hierarchy in read_host().hierarchies]
    return [path for path in paths if path.exists()]


def end_of(pids: set[int]) -> list[str]:
    """Reap those that end by themselves; what is left of the others, which are killed."""
    left = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], END_TIMEOUT_S)[0]:
                left.append(f"process {Path(f'/proc/{pid}/cmdline').read_bytes()!r}")
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
        finally:
            os.close(descriptor)
    return left
