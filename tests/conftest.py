"""What holds for all tests: what they leave, and that in CI each of them runs."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import prctl
import pytest
from conformance import plugin as conformance

import pyruntime
from pyruntime import _native
from pyruntime.cgroups import remove_empty_parent


def pytest_report_header() -> str:
    return f"pyruntime from {os.path.dirname(pyruntime.__file__)}"


def pytest_addoption(parser: pytest.Parser) -> None:
    conformance.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(conformance.Plugin(config), "conformance")
    check_build()


def check_build() -> None:
    """`make test-sanitized` is worth nothing if it tests the usual build."""
    if os.environ.get("PYRUNTIME_SANITIZED") == "1":
        with open("/proc/self/maps") as maps:
            loaded = maps.read()
        assert "libasan" in loaded and "/build/sanitized/" in _native.__file__, "this is not the sanitized build"


def fail_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """CI has all that the tests need, so what does not run there, or is expected to fail, hides a breakage."""
    if os.environ.get("CI") == "true" and (report.skipped or hasattr(report, "wasxfail")):
        report.outcome = "failed"
        report.longrepr = f"skipped or expected to fail, which nothing is in CI: {report.longrepr}"
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_in_ci(report)
    return report


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_earlier_modules() -> None:
    """A CliRuntime makes this process adopt orphans, for good: those of engines and commands that later tests run are not its own. And
    descriptors that only wait for the garbage collection would be gone after a test that counts them."""
    prctl.set_child_subreaper(False)
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _no_cgroups_left() -> Iterator[None]:
    """Deleting a container leaves the parent of its cgroups."""
    yield
    if os.geteuid() == 0:
        for parent in ("/pyruntime", "/pyruntime-contract"):
            remove_empty_parent(parent)  # and where another run is under way it is not empty
