"""The fixtures of this directory."""

from lab import lab, reachable, volume

__all__ = ["lab", "reachable", "volume"]
