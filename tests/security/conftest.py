"""The fixtures of this directory."""

from attacks import attack, compile_static

__all__ = ["attack", "compile_static"]
