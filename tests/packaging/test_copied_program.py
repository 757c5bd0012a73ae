"""Where a copy of the front end looks for the program in Python: it is root who executes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import ROOT, run

SAID = "the program in Python\n"
SOMEBODY = 54321
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the front end, and where its build was told that the program in Python is going to be: `opt/env/bin`."""
    place = tmp_path_factory.mktemp("place")
    run(sys.executable, "-c", f"import build, pathlib; build.build_front(pathlib.Path({str(place)!r}), '{place}/opt/env/bin')", cwd=ROOT)
    return place


@pytest.fixture
def installed(place: Path) -> Path:
    """The program in Python, anew; the copy is beside `opt`."""
    shutil.rmtree(place / "opt", ignore_errors=True)
    directory = place / "opt" / "env" / "bin"
    directory.mkdir(parents=True)
    program = directory / "pyruntime-python"
    program.write_text(f"#!/bin/sh\necho '{SAID.strip()}'\n")
    program.chmod(0o755)
    return program


def call(place: Path) -> tuple[int, str, str]:
    ended = subprocess.run([place / "pyruntime", "list"], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def missing(place: Path) -> tuple[int, str, str]:
    return 127, "", f"pyruntime: execute '{place}/pyruntime-python': No such file or directory\n"


def test_it_is_found_where_it_was_installed(place: Path, installed: Path) -> None:
    assert call(place) == (0, SAID, "")
    installed.unlink()
    assert call(place) == missing(place)


def test_a_sticky_directory_keeps_what_is_in_it(place: Path, installed: Path) -> None:
    (place / "opt").chmod(0o1777)
    assert call(place) == (0, SAID, "")


def leave(installed: Path) -> None:
    os.chown(installed, SOMEBODY, -1)


def link(installed: Path) -> None:
    """By a link that is root's, to what is not."""
    other = installed.parents[2] / "other"
    other.mkdir()
    installed.rename(other / installed.name)
    os.chown(other, SOMEBODY, -1)
    installed.symlink_to(other / installed.name)


@pytest.mark.parametrize("spoil", [
    leave, link, lambda installed: installed.chmod(0o775), lambda installed: installed.parent.chmod(0o777),
    lambda installed: installed.parents[1].chmod(0o757), lambda installed: os.chown(installed.parents[2], SOMEBODY, -1),
    lambda installed: os.chown(installed.parents[1], SOMEBODY, -1)],
    ids=["owner", "link", "writable", "directory", "above", "highest", "owner-above"])
def test_what_others_could_have_put_there_is_not_executed(place: Path, installed: Path, spoil: Callable[[Path], None]) -> None:
    assert call(place) == (0, SAID, "")
    spoil(installed)
    assert call(place) == missing(place)


def test_what_is_beside_it_comes_first(place: Path, installed: Path) -> None:
    """Also if it cannot be executed: another version's is not taken in its place."""
    beside = place / "pyruntime-python"
    beside.write_text("#!/bin/sh\necho beside\n")
    try:
        code, output, error = call(place)
        assert (code, output) == (127, "") and error == f"pyruntime: execute '{beside}': Permission denied\n"
        beside.chmod(0o755)
        assert call(place) == (0, "beside\n", "")
    finally:
        beside.unlink()
