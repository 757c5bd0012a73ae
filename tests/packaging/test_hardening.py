"""What the built programs say of themselves, and that a warning in any C source ends the build."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from trees import ROOT, build, copy_tree, run

from pyruntime import _native

EXTENSION = Path(_native.__file__)
WARNED_OF = "\nlong unasked(long wide);\nlong unasked(long wide) { int narrow = wide; return narrow; }\n"


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("init")
    run(sys.executable, "-c", f"import build, pathlib; build.build_init(pathlib.Path({str(directory)!r}))", cwd=ROOT)
    return directory / "pyruntime-init"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("front")
    run(sys.executable, "-c", f"import build, pathlib; build.build_front(pathlib.Path({str(directory)!r}), '/nowhere')", cwd=ROOT)
    return directory / "pyruntime"


def headers(image: Path) -> dict[str, set[str]]:
    """Flags of the segments, by type."""
    shown = run("readelf", "-lW", image, cwd=ROOT)
    found: dict[str, set[str]] = {}
    for kind, flags in re.findall(r"^ +([A-Z_]+)(?: +0x[0-9a-f]+){5} ([RWE ]{3}) ", shown, re.MULTILINE):
        found.setdefault(kind, set()).add(flags.replace(" ", ""))
    return found


def instructions(image: Path) -> str:
    return run("objdump", "-d", "--no-show-raw-insn", image, cwd=ROOT)


def test_no_segment_is_both_writable_and_executable(init: Path, front: Path) -> None:
    for image in (init, front, EXTENSION):
        found = headers(image)
        assert found["LOAD"] == {"R", "RE", "RW"}
        assert found["GNU_STACK"] == {"RW"}
        assert found["GNU_RELRO"] == {"R"}


def test_the_init_loads_nothing(init: Path, front: Path) -> None:
    assert headers(front).keys() == {"LOAD", "GNU_STACK", "GNU_RELRO"}
    assert headers(init).keys() == {"LOAD", "GNU_STACK", "GNU_RELRO"}  # neither an interpreter nor a dynamic section
    assert init.read_bytes() in EXTENSION.read_bytes()


def test_the_extension_is_bound_at_load_and_needs_the_c_library_alone() -> None:
    shown = run("readelf", "-dW", EXTENSION, cwd=ROOT)
    assert re.search(r"\(FLAGS_1\).*NOW", shown)
    assert re.findall(r"NEEDED.*\[(.*)\]", shown) == ["libseccomp.so.2", "libc.so.6"]
    assert "TEXTREL" not in shown


def test_the_extension_has_checked_calls_and_guarded_stacks() -> None:
    wanted = run("nm", "-D", "--undefined-only", EXTENSION, cwd=ROOT)
    assert "__stack_chk_fail" in wanted  # -fstack-protector-strong
    assert "_chk@" in wanted.replace("__stack_chk_fail@", "")  # _FORTIFY_SOURCE


def test_init_and_front_end_guard_their_stacks(init: Path, front: Path) -> None:
    # the guard is read from the thread's control block in each guarded function and compared at its end
    assert len(re.findall(r"%fs:0x28", instructions(front))) > 20
    assert len(re.findall(r"%fs:0x28", instructions(init))) > 20


@pytest.mark.parametrize("name", ["abi.h", "init.c", "plan.c", "child.c", "front.c"])
def test_a_warning_is_an_error(name: str, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    with (tree / "native" / name).open("a") as source:
        source.write(WARNED_OF)
    result = build(tree)
    assert result.returncode == 1
    assert "[-Werror=conversion]" in result.stdout
    assert not list((tree / "dist").iterdir())
