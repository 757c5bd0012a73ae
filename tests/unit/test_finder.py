"""How a command finds this package's modules."""

from __future__ import annotations

import importlib.machinery
import pkgutil
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
