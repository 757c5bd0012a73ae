"""What is said of a new process is not said of the caller, whose memory it has until it executes the init."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab

from pyruntime import StdioOptions

pytestmark = pytest.mark.privileged

MIB = 1 << 20


@pytest.fixture
def _busy_mappings() -> Iterator[None]:
    """A thread that changes the mappings of this process, for which the kernel waits between the two halves of an execution."""
    library = ctypes.CDLL(None)
    size = 256 * MIB
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE) as memory:
        first = ctypes.c_char.from_buffer(memory)
        address, stop = ctypes.c_void_p(ctypes.addressof(first)), threading.Event()

        def change() -> None:
            while not stop.is_set():
                for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
                    library.mprotect(address, ctypes.c_size_t(size), protection)

        thread = threading.Thread(target=change)
        thread.start()
        yield
        stop.set()
        thread.join()
        del first


@pytest.mark.conformance(17)
@pytest.mark.usefixtures("_busy_mappings")
def test_oom_score_adj_of_the_caller_stays(lab: Lab) -> None:
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    lab.sleeper()
    try:
        for _ in range(100):
            pid = lab.runtime.exec_process("p1", {"args": ["/bin/cat", "/proc/self/oom_score_adj"], "cwd": "/", "oomScoreAdj": 500},
                                           StdioOptions(create_out=True))
            assert own.read_text() == before
            assert lab.read("p1", pid) == "500\n"
            lab.runtime.wait_on_process("p1", pid)
            lab.runtime.delete_process("p1", pid)
    finally:
        own.write_text(before)
