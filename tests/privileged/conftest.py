"""The fixtures of this directory."""

from lab import lab, reachable, volume
from probing import probe, probe_program

__all__ = ["lab", "probe", "probe_program", "reachable", "volume"]
