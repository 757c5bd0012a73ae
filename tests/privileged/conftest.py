"""The fixtures of this directory."""

from command_lab import line, service
from delegation import delegated
from lab import lab, reachable, volume
from probing import probe, probe_program
from users import user

__all__ = ["delegated", "lab", "line", "probe", "probe_program", "reachable", "service", "user", "volume"]
