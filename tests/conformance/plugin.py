"""Pytest's part: collects what tests claim, and tells which of it passed here.

--conformance-claims FILE   write what is claimed by what is collected
--conformance-record        print what passed, in a line for record.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conformance.claims import Claim, claimed_rows, claims_of, name_of
from conformance.places import abilities, place
from conformance.runs import RECORD_MARK, Run, read_runs


class Observed:
    """Of one session: the claims, and how each of their items went."""

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}
        self.planned: dict[str, set[str]] = {}
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def collect(self, items: list[pytest.Item]) -> None:
        self.claims = claims_of(items)
        for item in items:
            if (name := name_of(item)) in self.claims:
                if rows := claimed_rows(item):
                    item.add_marker(pytest.mark.conformance(*sorted(rows)))  # the contract's have none, and are to be found by it, too
                self.planned.setdefault(name, set()).add(item.nodeid)

    def observe(self, report: pytest.TestReport) -> None:
        """A test passed if all its phases did: one that is skipped, or expected to fail, did not."""
        if not report.passed or hasattr(report, "wasxfail"):
            self.failed.add(report.nodeid)
        elif report.when == "call":
            self.passed.add(report.nodeid)

    def proven(self) -> dict[str, str]:
        """The digests of the claims of which each item ran and passed."""
        return {name: claim.digest for name, claim in self.claims.items() if self.planned[name] <= self.passed - self.failed}

    def disproven(self) -> set[str]:
        """Claims of which an item ran and did not pass."""
        return {name for name in self.claims if self.planned[name] & self.failed}


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "rows of the specification")
    group.addoption("--conformance-claims", type=Path, metavar="FILE", help="write what the collected tests claim")
    group.addoption("--conformance-record", action="store_true", help="print what passed")


class Plugin:
    """Registered by tests/conftest.py."""

    def __init__(self, config: pytest.Config) -> None:
        self.claims_file: Path | None = config.getoption("--conformance-claims")
        self.is_recording: bool = config.getoption("--conformance-record")
        self.observed = Observed()

    # before pytest leaves out what was not asked for: a claim is of the whole function
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.observed.collect(items)
        if self.claims_file:
            claims = {name: {"rows": sorted(claim.rows), "digest": claim.digest} for name, claim in self.observed.claims.items()}
            self.claims_file.write_text(json.dumps(claims))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.observed.observe(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.contradicted() and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def contradicted(self) -> list[str]:
        """What docs/conformance.md says to have passed here, as it stands, and did not now."""
        disproven = self.observed.disproven()
        if not disproven:
            return []
        run = read_runs().get(place())
        passed = run.passed if run else {}
        return sorted(name for name in disproven if passed.get(name) == self.observed.claims[name].digest)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for name in self.contradicted():
            terminalreporter.write_line(f"docs/conformance.md says that this passes here ({place()}): {name}")
        if self.is_recording:
            here = abilities()
            run = Run(os.uname().release, sorted(name for name in here if here[name]), sorted(name for name in here if not here[name]),
                      self.observed.proven(), sorted(self.observed.disproven()))
            terminalreporter.write_line("")
            terminalreporter.write_line(f"{RECORD_MARK}{place()} {run.to_json()}")
