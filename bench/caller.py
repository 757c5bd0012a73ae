"""A process that runs containers and holds as much memory as it is told to: `python -m bench.caller`.

Driven by `bench.coprocess`: to every line it answers the times of one cycle.
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path

from bench.native import Native
from bench.samples import describe


def touch(size_bytes: int) -> bytearray:
    """Memory that is really there: one byte written on every page."""
    block = bytearray(size_bytes)
    for offset in range(0, size_bytes, mmap.PAGESIZE):
        block[offset] = 1
    return block


def main() -> None:
    root, bundle_path, size_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    block = touch(size_bytes)
    native = Native(root, bundle_path, bundle_path)
    for _ in sys.stdin:
        answer: dict[str, object]
        try:
            answer = dict(native.cycle())
        except Exception as error:  # the benchmark shows it
            answer = {"error": describe(error)}
        print(json.dumps(answer), flush=True)
    del block


if __name__ == "__main__":
    main()
