"""Imports go one way (docs/architecture.md), and files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pyruntime"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 450
# what takes over a project where it exists
REFUSED_NAMES = {"utils", "util", "helpers", "common", "linux"}
BASE = {"errors", "notices"}
# which of pyruntime's own parts each part may import; the parts not named here are at the top
ALLOWED = {
    "errors": set(),
    "interface": BASE | {"spec"},
    "host": BASE,
    "spec": BASE,
    "cgroups": BASE | {"host", "native.files"},
    "plan": BASE | {"spec", "host", "cgroups", "state.names"},
    "native": BASE | {"plan", "interface", "_native"},
    "checkpoint": BASE | {"native", "plan"},
    "state": BASE | {"spec", "cgroups", "native.files"},
}


def imports_of(path: Path) -> Iterator[str]:
    """Modules that a file imports at any place, without those only for type checks."""
    tree = ast.parse(path.read_text())
    skipped = {inner for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
               for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # `from pyruntime import _native` and `from pyruntime.native import files` import a module
            directory = PACKAGE.parent.joinpath(*module.split("."))
            yield from (f"{module}.{alias.name}" if module == "pyruntime" or (directory / f"{alias.name}.py").exists() else module
                        for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imports_of(path):
        if name == "pyruntime._native":
            assert part == "native", f"{path} imports the extension"
        if part not in ALLOWED or not name.startswith("pyruntime."):
            continue
        inner = name.removeprefix("pyruntime.")
        imported = inner.split(".")[0]
        assert imported == part or imported in ALLOWED[part] or inner in ALLOWED[part], f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "notices.py"], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_told_goes_through_notices(path: Path) -> None:
    """The command line has no other way to hear of it, and importing the module takes long."""
    assert not any(name.split(".")[0] == "logging" for name in imports_of(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_names_and_sizes(path: Path) -> None:
    assert path.stem not in REFUSED_NAMES
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{path} has {lines} lines"


def test_importing_is_cheap() -> None:
    script = "import sys, pyruntime; print([m for m in ('subprocess', 'asyncio', 'pyroute2', 'json') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_bundles_are_made_without_pytest() -> None:
    script = ("import sys; sys.modules['pytest'] = None\n"
              "import pyruntime.demo; from pyruntime.testing import HostSnapshot, make_bundle; print('fine')")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "fine\n"
