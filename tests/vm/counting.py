"""A container that counts, its checkpoint, and what a failed restore must not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from pyruntime import StdioOptions
from pyruntime.checkpoint import CheckpointOptions, RestoreOptions
from pyruntime.checkpoint.mounts import parse_mountinfo
from pyruntime.testing.snapshot import HostSnapshot

COUNTER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
PIPES = StdioOptions(create_out=True)


class Counter:
    """A container p1 that writes numbers, line by line, and its checkpoint."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.runtime = lab.runtime
        self.image = lab.directory / "image"
        self.bundle = ""
        self.pid = 0
        self.last = 0

    def run(self, script: str = COUNTER, stdio: StdioOptions = PIPES, **changes: Any) -> int:
        self.bundle = self.lab.bundle(script, **changes)
        self.pid = self.runtime.create_container("p1", self.bundle, stdio)
        self.runtime.start_container("p1")
        return self.pid

    def count(self, more: int = 3) -> None:
        """The next numbers, and none is missing."""
        out = self.runtime.get_stdio_pipes("p1", self.pid).out
        assert out is not None
        data = b""
        while data.count(b"\n") < more:
            chunk = os.read(out.fileno(), 1)
            assert chunk, data
            data += chunk
        self._compare(data)

    def drain(self) -> None:
        """What was written before the end."""
        self._compare(self.lab.read("p1", self.pid).encode())

    def _compare(self, data: bytes) -> None:
        numbers = [int(line) for line in data.split()]
        assert numbers == list(range(self.last + 1, self.last + 1 + len(numbers))), (self.last, numbers)
        self.last += len(numbers)

    def checkpoint(self, **options: Any) -> None:
        self.runtime.checkpoint_container("p1", str(self.image), CheckpointOptions(**options))

    def stop(self, **options: Any) -> None:
        """A checkpoint, and nothing of the container is left."""
        self.checkpoint(**options)
        self.drain()
        self.runtime.wait_on_container("p1")
        self.runtime.delete_container("p1")

    def restore(self, stdio: StdioOptions = PIPES, id: str = "p1", **options: Any) -> int:
        self.pid = self.runtime.restore_container(id, self.bundle, str(self.image), stdio, RestoreOptions(**options))
        return self.pid

    def mounts(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """Without their numbers, which are others after a restore."""
        entries = parse_mountinfo(Path(f"/proc/{self.pid}/mountinfo").read_text())
        return sorted((entry.mount_point, entry.root, entry.kind, tuple(sorted(entry.flags))) for entry in entries)


@pytest.fixture
def counter(reachable: Lab) -> Iterator[Counter]:
    yield Counter(reachable)


class unchanged:  # noqa: N801  # a context manager
    """Nothing of the host has changed afterwards, and there is no container."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.before = HostSnapshot.take(counter.lab.root, counter.image)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        log = str(self.counter.image / "restore.log")
        now = HostSnapshot.take(self.counter.lab.root, self.counter.image)
        found = [line for line in now.differences(self.before, ["p1"]) if not line.endswith(log)]
        assert found == [], found
        assert not self.counter.runtime.container_exists("p1")
