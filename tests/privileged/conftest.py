"""The fixtures of this directory."""

from lab import lab, reachable

__all__ = ["lab", "reachable"]
