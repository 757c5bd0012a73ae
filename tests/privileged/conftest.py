"""The fixtures of this directory."""

from delegation import delegated
from lab import lab, reachable, volume
from probing import probe, probe_program
from users import user

__all__ = ["delegated", "lab", "probe", "probe_program", "reachable", "user", "volume"]
