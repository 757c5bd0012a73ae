"""In CI a test that does not run is a failed one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
NOT_RUN = {
    "skip": "def test():\n    pytest.skip('no such program')",
    "mark": "@pytest.mark.skipif(True, reason='no such kernel')\ndef test():\n    pass",
    "module": "pytest.skip('no such machine', allow_module_level=True)",
    "import": "pytest.importorskip('no_such_module')",
    "fixture": "@pytest.fixture\ndef needed():\n    pytest.skip('no such daemon')\ndef test(needed):\n    pass",
    "teardown": "@pytest.fixture\ndef used():\n    yield\n    pytest.skip('nothing to clean')\ndef test(used):\n    pass",
    "empty": "@pytest.mark.parametrize('version', [])\ndef test(version):\n    pass",
    "xfail": "@pytest.mark.xfail\ndef test():\n    assert False",
    "xpass": "@pytest.mark.xfail\ndef test():\n    pass"}


def outcome(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    # a conftest of its own: the one of this run is loaded already in this process
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(f"import pytest\n{source}\ndef test_of_no_interest():\n    pass")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


@pytest.fixture(autouse=True)
def _modules_of_the_conftest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CONFTEST.parent), prepend=os.pathsep)


@pytest.mark.parametrize("source", NOT_RUN.values(), ids=NOT_RUN.keys())
def test_what_does_not_run_fails_in_ci(source: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = outcome(pytester, source)
    assert result.ret in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}, result.stdout.str()
    assert "nothing is in CI" in result.stdout.str()


@pytest.mark.parametrize("source", NOT_RUN.values(), ids=NOT_RUN.keys())
def test_and_elsewhere_does_not(source: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert outcome(pytester, source).ret in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}


def test_a_test_that_runs_passes_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert outcome(pytester, "").ret == pytest.ExitCode.OK
