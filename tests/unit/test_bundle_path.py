"""What a bundle's path may be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyruntime.errors import InvalidBundleError
from pyruntime.host import read_host
from pyruntime.runtimes.bundle import open_bundle
from pyruntime.runtimes.compiled import BundleCache
from pyruntime.testing.bundles import default_config


@pytest.mark.parametrize(("name", "is_text"), [(b"\xc3\xa9", True), (b"\xe9", False)])
def test_a_state_is_utf_8(name: bytes, is_text: bool, tmp_path: Path) -> None:
    """So is the path in it."""
    bundle = tmp_path / os.fsdecode(name)
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(default_config()))
    for open in (open_bundle, BundleCache(read_host(), str(tmp_path)).open):
        if is_text:
            open(str(bundle))
            continue
        with pytest.raises(InvalidBundleError) as caught:
            open(str(bundle))
        assert (caught.value.file, caught.value.json_path) == (str(bundle), None)
        assert caught.value.reason == "the path is not UTF-8, as the state of its container has to be"
