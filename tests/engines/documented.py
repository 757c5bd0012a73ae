"""The configuration files that docs/kubernetes.md shows, so that what it says is what is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from engine import PYRUNTIME

DOCUMENT = Path(__file__).parents[2] / "docs" / "kubernetes.md"
_FILES = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL))


def documented(file: str, changes: Mapping[str, str] | None = None) -> str:
    """A file's text, with the program that is tested, and with what the tests need in the place of what is there."""
    text = _FILES[file].replace("/usr/local/bin/pyruntime", PYRUNTIME)
    for old, new in (changes or {}).items():
        assert old in text, f"{DOCUMENT.name}: {file} has no {old!r}"
        text = text.replace(old, new)
    return text
