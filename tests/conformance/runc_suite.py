"""The section of docs/conformance.md about runc's own tests of its command line, from runc_suite.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "runc_suite.toml"


@dataclass(frozen=True)
class Difference:
    """A test that runc passes, and what is otherwise with this command line."""

    file: str
    test: str
    what: str


@dataclass(frozen=True)
class Group:
    """Differences with one reason."""

    title: str
    reason: str
    differences: Sequence[Difference]


@dataclass(frozen=True)
class Suite:
    """What runc_suite.toml says. elsewhere: how many tests neither passes, or runc does not, and what is missing here for them."""

    checkout: str
    day: str
    kernel: str
    tests: int
    runc: int
    both: int
    pyruntime: int
    elsewhere: Sequence[tuple[int, str]]
    groups: Sequence[Group]


@functools.cache
def read_suite() -> Suite:
    told = tomllib.loads(SOURCE.read_text())
    groups = [Group(group["title"], group["reason"], [Difference(*each) for each in group["differences"]]) for group in told["group"]]
    elsewhere = [(missing["tests"], missing["lacks"]) for missing in told["elsewhere"]]
    return Suite(told["checkout"], told["day"], told["kernel"], **told["count"], elsewhere=elsewhere, groups=groups)


def suite_section(suite: Suite) -> list[str]:
    """Lines of Markdown."""
    differences = sum(len(group.differences) for group in suite.groups)
    lines = ["## runc's tests of its command line", "",
             f"The integration tests of {suite.checkout}, run on {suite.day} on the host (Linux {suite.kernel}, hybrid",
             "cgroups) with this command line and with a runc that was built from that checkout. They are not part of this project.", "",
             f"Of {suite.tests} tests runc passes {suite.runc} here, and this command line {suite.pyruntime}: {suite.both} of those that runc",
             f"passes, and {suite.pyruntime - suite.both} that it does not. What only runc passes ({differences}) is listed below. The",
             f"other {suite.tests - suite.runc} want what there is not here:", "",
             *(f"- {count}: {lacks}" for count, lacks in suite.elsewhere)]
    for group in suite.groups:
        lines += ["", f"### {group.title}", "", group.reason, "",
                  *(f"- `{each.file}`, `{each.test}`: {each.what}." for each in group.differences)]
    return lines
