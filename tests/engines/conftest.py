"""The fixtures of this directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from node import handler, node, nothing_left, pod

__all__ = ["handler", "node", "nothing_left", "pod", "volume"]


@pytest.fixture
def volume(tmp_path: Path) -> str:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("text\n")
    return str(tmp_path)
