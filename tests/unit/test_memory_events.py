"""That memory ran out, when the kernel tells of the end first: a file's second change within 10 ms is told late (cgroup_file_notify)."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator

import pytest

from pyruntime.interface import StdioPipes
from pyruntime.runtimes.live import Entry, LiveProcess


class Untold:
    """Of which an event is to be read, and the descriptor not ready yet."""

    event = select.POLLIN
    is_gone = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def count(self) -> int:
        return 1


@pytest.fixture
def untold() -> Iterator[Untold]:
    descriptor = os.eventfd(0)
    yield Untold(descriptor)
    os.close(descriptor)


def test_the_end_is_told_first(untold: Untold, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    pid = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, reads, 0)])
    os.close(reads)

    def events(_entry: Entry, _held: contextlib.ExitStack) -> Untold:
        """Looked for once the wait has begun; the process ends after that."""
        os.close(writes)
        return untold

    monkeypatch.setattr(Entry, "_memory_events", events)
    init = LiveProcess(pid, 0, os.pidfd_open(pid), StdioPipes())
    entry = Entry(init)
    ended = entry.wait_init(init)
    assert ended is not None and ended.exit_code == 0
    assert entry.has_run_out_of_memory
    init.close()
