"""The fixtures of the tests that run in the virtual machine: those of real containers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("privileged", "contract")]

from counting import counter  # noqa: E402  # of the path above
from lab import lab, reachable, volume  # noqa: E402
from probing import probe, probe_program  # noqa: E402
from unit_lab import units  # noqa: E402
from users import user  # noqa: E402

__all__ = ["counter", "lab", "probe", "probe_program", "reachable", "units", "user", "volume"]
