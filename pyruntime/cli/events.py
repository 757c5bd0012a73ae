"""events."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from pyruntime.errors import ContainerNotFoundError, NotRunningError

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|ns)", re.ASCII)


def seconds(text: str) -> float:
    """`1m30s` is 90."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration as 1m30s or 500ms")
    total = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if total <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
    return float(total)


def events(runtime: NativeRuntime, options: Options) -> int:
    """One JSON document a line, as long as the container runs; the first statistics at once."""
    if options.stats:
        _print({"type": "stats", "id": options.id, "data": runtime.container_statistics(options.id)})
        return 0
    with runtime.container_events(options.id) as source:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                try:
                    _print({"type": "stats", "id": options.id, "data": runtime.container_statistics(options.id)})
                except (ContainerNotFoundError, NotRunningError):
                    return 0  # it has ended meanwhile
                due = now + options.interval
            ran_out, has_ended = source.wait(due - time.monotonic())
            for _ in range(ran_out):
                _print({"type": "oom", "id": options.id})
            if has_ended:
                return 0


def _print(event: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()
