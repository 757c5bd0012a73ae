"""Programs of filters that are kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filters import rule, seccomp_of

from pyruntime.native.seccomp import Compiled, compile_filter
from pyruntime.plan.seccomp import FilterSource, filter_source
from pyruntime.runtimes import filters
from pyruntime.runtimes.filters import DIRECTORY, FilterCache
from pyruntime.state import Store

UNKNOWN = ("later", "newer")


def source(errno: int = 1) -> FilterSource:
    return filter_source(seccomp_of(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("mkdir newer later", "SCMP_ACT_ERRNO", errnoRet=errno)]))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FilterSource]:
    """What programs were made of."""
    found: list[FilterSource] = []

    def compile(source: FilterSource) -> Compiled:
        found.append(source)
        return compile_filter(source)

    monkeypatch.setattr(filters, "compile_filter", compile)
    return found


def the_file(root: Path) -> Path:
    (path,) = (root / DIRECTORY).iterdir()
    return path


def test_a_program_is_made_once(tmp_path: Path, made: list[FilterSource]) -> None:
    cache = FilterCache(str(tmp_path))
    first = cache.compile(source())
    assert first == compile_filter(source()) and first.unknown == UNKNOWN
    assert cache.compile(source()) is first
    assert FilterCache(str(tmp_path)).compile(source()) == first
    assert made == [source()]
    assert cache.compile(source(2)) != first
    assert made == [source(), source(2)]


def test_files_are_root_s_alone(tmp_path: Path) -> None:
    FilterCache(str(tmp_path)).compile(source())
    assert (tmp_path / DIRECTORY).stat().st_mode & 0o777 == 0o700
    assert the_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert Store(str(tmp_path)).ids() == []


def flip_a_bit(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize("damage", [
    flip_a_bit, lambda data: data[:-8], lambda data: b"", lambda data: data + b"\0" * 8, lambda data: b"x" + data[1:], lambda data: data[:40],
    lambda data: data.replace(b"newer", b"never")], ids=["bit", "short", "empty", "long", "format", "head", "names"])
def test_a_damaged_file_is_made_again(tmp_path: Path, made: list[FilterSource], damage: Callable[[bytes], bytes],
                                      caplog: pytest.LogCaptureFixture) -> None:
    right = FilterCache(str(tmp_path)).compile(source())
    path = the_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with caplog.at_level(logging.WARNING, "pyruntime"):
        assert FilterCache(str(tmp_path)).compile(source()) == right
    assert len(made) == 2 and path.read_bytes() == content
    assert [record.getMessage() for record in caplog.records] == [f"{path}: is damaged, and is made again"]


def test_a_file_of_another_profile_is_not_taken(tmp_path: Path, made: list[FilterSource]) -> None:
    """Even though nothing is wrong with it."""
    FilterCache(str(tmp_path)).compile(source(1))
    path = the_file(tmp_path)
    other = FilterCache(str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    right = other.compile(source(2))
    path.write_bytes(the_file(tmp_path / "other").read_bytes())
    assert FilterCache(str(tmp_path)).compile(source(1)) == compile_filter(source(1)) != right
    assert len(made) == 3


@pytest.mark.parametrize("how", ["mode", "link", "file"])
def test_a_directory_of_others_is_not_used(tmp_path: Path, made: list[FilterSource], how: str) -> None:
    directory = tmp_path / DIRECTORY
    if how == "mode":
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
    elif how == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to("elsewhere")
    else:
        directory.write_text("")
    for _ in range(2):
        assert FilterCache(str(tmp_path)).compile(source()) == compile_filter(source())
    assert len(made) == 2
    assert how == "file" or list(directory.iterdir()) == []


def test_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "FILES_KEPT", 4)
    monkeypatch.setattr(filters, "PROGRAMS_KEPT", 2)
    cache, paths = FilterCache(str(tmp_path)), []
    for errno in range(1, 6):
        cache.compile(source(errno))
        (new,) = set((tmp_path / DIRECTORY).iterdir()) - set(paths)
        paths.append(new)
        os.utime(new, (errno, errno))
    # the fifth was the newest when there were too many
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert cache.compile(source(1)) == compile_filter(source(1))
