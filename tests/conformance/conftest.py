"""The fixtures of this directory: those of real containers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("privileged", "unit")]

from lab import lab, reachable  # noqa: E402  # of the path above
from probing import probe, probe_program  # noqa: E402

from conformance.schemas import CHECKOUT  # noqa: E402

__all__ = ["lab", "probe", "probe_program", "reachable"]

collect_ignore = [] if CHECKOUT else ["test_examples.py"]  # it is of a checkout alone
