"""The fixtures of this directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import handler, node, nothing_left, pod
from podman import podman

from pyruntime.host import read_host

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("privileged", "contract")]

from programs import hugetlb_hierarchy  # noqa: E402  # of the path above

__all__ = ["handler", "hugetlb_hierarchy", "node", "nothing_left", "pod", "podman", "volume"]


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[str]:
    """A directory with a file; of a file system whose ids can be mapped, which a tmpfs is from Linux 6.3 on."""
    tmp_path.chmod(0o755)
    if read_host().kernel < (6, 3):
        image = tmp_path / "image"
        subprocess.run(["mkfs.ext4", "-q", image, "4M"], check=True)
        path = tmp_path / "mounted"
        path.mkdir()
        subprocess.run(["mount", "-o", "loop", image, path], check=True)
    else:
        path = tmp_path
    (path / "file").write_text("text\n")
    yield str(path)
    if path != tmp_path:
        subprocess.run(["umount", path], check=True)
