"""What tests claim: the rows that they prove, and the text of theirs that does."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parent
MARKER = "conformance"


@dataclass(frozen=True)
class Row:
    """One of rows.toml."""

    number: int
    section: str
    level: str
    asks: str
    needs: tuple[str, ...]


@functools.cache
def read_rows() -> dict[int, Row]:
    rows = tomllib.loads((DIRECTORY / "rows.toml").read_text())["row"]
    return {row["number"]: Row(row["number"], row["section"], row["level"], row["asks"], tuple(row.get("needs", ()))) for row in rows}


@dataclass(frozen=True)
class Claim:
    """A test function with all its parameters: the rows, and a digest of its text and its parameters' names.

    A test that is changed, or has a parameter more, is another one than the one that passed.
    """

    rows: frozenset[int]
    digest: str


def claimed_rows(item: pytest.Item) -> frozenset[int]:
    """Of the item's marks; and of the contract's decorator where the class runs it on an engine of this project."""
    rows = {row for mark in item.iter_markers(MARKER) for row in mark.args}
    if getattr(getattr(item, "cls", None), "proves_conformance", False):
        rows |= getattr(function_of(item), "specification_rows", frozenset())
    unknown = rows - read_rows().keys()
    if unknown:
        raise pytest.UsageError(f"{item.nodeid}: rows that tests/conformance/rows.toml has not: {sorted(unknown, key=str)}")
    return frozenset(rows)


def name_of(item: pytest.Item) -> str:
    """Of the test function, without parameters."""
    return item.nodeid.partition("[")[0]


def function_of(item: pytest.Item) -> Callable[..., object]:
    assert isinstance(item, pytest.Function), item
    function: Callable[..., object] = item.function
    return function


def _without_claims(source: str) -> str:
    """The text without the rows that it claims."""
    lines = textwrap.dedent(source).splitlines()
    definition = ast.parse("\n".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    for decorator in definition.decorator_list:
        if ast.unparse(decorator).startswith((f"pytest.mark.{MARKER}(", "specifies(")):
            for number in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1):
                lines[number - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def claims_of(items: Iterable[pytest.Item]) -> dict[str, Claim]:
    """By the function's name, of all items that were collected: also those that another option leaves out then."""
    items = list(items)
    rows: dict[str, set[int]] = {}
    for item in items:
        if found := claimed_rows(item):
            rows.setdefault(name_of(item), set()).update(found)
    parameters: dict[str, list[str]] = {}
    functions: dict[str, Callable[..., object]] = {}
    for item in items:
        if (name := name_of(item)) in rows:
            parameters.setdefault(name, []).append(item.nodeid.removeprefix(name))
            functions[name] = function_of(item)
    claims = {}
    for name, numbers in rows.items():
        # pytest escapes what is no plain text once more for each class that inherits the test
        names = sorted(re.sub(r"\\+", r"\\", parameter) for parameter in parameters[name])
        text = "\0".join([_without_claims(inspect.getsource(functions[name])), *names])
        claims[name] = Claim(frozenset(numbers), hashlib.sha256(text.encode()).hexdigest()[:12])
    return claims
