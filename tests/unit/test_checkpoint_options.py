"""What can be chosen of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyruntime.checkpoint.options import check_parent_path


def test_an_earlier_checkpoint_is_looked_for_from_the_image(tmp_path: Path) -> None:
    for path in ("earlier", "elsewhere/image", "elsewhere/other"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere/image")
    (tmp_path / "file").touch()
    check_parent_path(str(tmp_path / "not-made-yet"), "../earlier")
    check_parent_path(str(tmp_path / "link"), "../other")
    for image, parent in (("not-made-yet", "../file"), ("not-made-yet", "../none"), ("link", "../earlier")):
        with pytest.raises(ValueError, match=f"'{parent}' is no directory"):
            check_parent_path(str(tmp_path / image), parent)
