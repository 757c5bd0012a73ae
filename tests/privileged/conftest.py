"""The fixtures of this directory."""

from lab import lab

__all__ = ["lab"]
