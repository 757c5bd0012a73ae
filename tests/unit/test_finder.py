"""How a command finds this package's modules."""

from __future__ import annotations

import importlib.machinery
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyruntime
from pyruntime.cli.finder import PackageFinder

ATTRIBUTES = ("name", "origin", "cached", "has_location", "submodule_search_locations", "parent")


def modules() -> list[str]:
    return [found.name for found in pkgutil.walk_packages(pyruntime.__path__, "pyruntime.") if not found.name.endswith("__main__")]


def test_it_finds_each_source_as_python_does() -> None:
    found = 0
    for name in modules():
        path = [str(Path(*pyruntime.__path__, *name.split(".")[1:-1]))]
        expected = importlib.machinery.PathFinder.find_spec(name, path)
        spec = PackageFinder.find_spec(name, path)
        assert expected is not None
        if name == "pyruntime._native":
            assert spec is None
            continue
        assert spec is not None and type(spec.loader) is type(expected.loader)
        assert [getattr(spec, each) for each in ATTRIBUTES] == [getattr(expected, each) for each in ATTRIBUTES]
        found += 1
    assert found > 150


@pytest.mark.parametrize("name", ["pyruntime.nothing", "pyruntime.plan.nothing", "msgspec", "pyruntime", "pyruntimes.plan", "json.decoder"])
def test_what_is_none_of_them(name: str) -> None:
    assert PackageFinder.find_spec(name, list(pyruntime.__path__)) is None
    assert PackageFinder.find_spec(name, None) is None


def run(script: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout


def test_a_program_has_modules_as_they_are() -> None:
    """Also those that msgspec was imported without, once somebody else imports them."""
    assert run("from pyruntime.cli.imports import prepare; prepare()\n"
               "import importlib, decimal, typing_extensions, uuid, msgspec, msgspec.inspect\n"
               "import pyruntime.plan.compile as module\n"
               "assert decimal.Decimal('0.5') * 2 == 1 and typing_extensions.TypedDict and uuid.uuid4() != uuid.uuid4()\n"
               "assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()\n"
               "assert importlib.reload(module) is module and module.__file__.endswith('plan/compile.py')\n"
               "try:\n    import pyruntime.nothing\nexcept ModuleNotFoundError as error:\n    print(error)"
               ) == "No module named 'pyruntime.nothing'\n"


@pytest.mark.parametrize("needed", ["uuid.uuid4", "decimal.Context", "typing_extensions.TypedDict"])
def test_another_msgspec_may_need_what_this_one_is_spared(tmp_path: Path, needed: str) -> None:
    module, name = needed.split(".")
    (tmp_path / "msgspec").mkdir()
    (tmp_path / "msgspec" / "__init__.py").write_text(f"from msgspec import part\nfrom {module} import {name} as found\n")
    (tmp_path / "msgspec" / "part.py").write_text("")
    assert run("import sys; sys.path.insert(0, sys.argv[1])\nfrom pyruntime.cli.imports import prepare; prepare()\n"
               f"import msgspec, {needed.split('.')[0]}\nassert msgspec.found is {needed}\nprint(msgspec.__file__)",
               str(tmp_path)) == f"{tmp_path}/msgspec/__init__.py\n"
