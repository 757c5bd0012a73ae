"""The fixtures of this directory."""

from command_lab import line, service
from delegation import delegated
from interruption import orphanage
from lab import lab, reachable, volume
from probing import probe, probe_program
from users import user

__all__ = ["delegated", "lab", "line", "orphanage", "probe", "probe_program", "reachable", "service", "user", "volume"]
