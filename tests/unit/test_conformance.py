"""docs/conformance.md says what the tests claim and what was seen to pass, and cannot say more."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conformance.claims import Claim, Row, read_rows
from conformance.document import DOCUMENT, current_document, document, verdict_of
from conformance.places import place
from conformance.runs import RECORD_MARK, Run, merged

TESTS = Path(__file__).parents[1]
ROW = Row(7, "config.md, Something", "MUST", "It does something.", ())
TOML = '[[row]]\nnumber = 7\nsection = "config.md"\nlevel = "MUST"\nasks = "Something."\n'


def test_the_document_is_what_the_tests_claim() -> None:
    # no difference to look at: it is long, and made again by a command
    assert DOCUMENT.read_text() == current_document(), "docs/conformance.md is stale: run `make conformance`"


def test_there_is_a_row_for_each_subject() -> None:
    rows = read_rows()
    assert list(rows) == list(range(1, 65))
    for row in rows.values():
        assert re.match(r"(config|config-linux|runtime|features)\.md, ", row.section), row
        assert row.level in {"MUST", "SHOULD", "MAY", "OPTIONAL"} and row.asks.endswith("."), row


def run_of(**passed: str) -> Run:
    return Run("6.1", ["memory controller"], ["SELinux"], passed)


@pytest.mark.parametrize(("claims", "runs", "verdict"), [
    ({}, {"cgroup-v1": run_of(a="1")}, "**unproven: no test**"),
    ({"a": "1"}, {}, "**unproven**"),
    ({"a": "1"}, {"cgroup-v1": run_of(b="1")}, "**unproven**"),
    ({"a": "2"}, {"cgroup-v1": run_of(a="1")}, "**unproven**"),
    ({"a": "1", "b": "2"}, {"cgroup-v1": run_of(a="1", b="1")}, "1 of 2 tests"),
    ({"a": "1", "b": "2"}, {"cgroup-v1": run_of(a="1"), "systemd": run_of(b="2")}, "proven"),
    ({"a": "1"}, {"somewhere": run_of(a="1")}, "**unproven**"),
], ids=["no test", "no run", "another test ran", "changed since", "one changed since", "each somewhere", "at no place of ours"])
def test_a_verdict_is_of_tests_that_passed_as_they_are(claims: dict[str, str], runs: dict[str, Run], verdict: str) -> None:
    made = {name: Claim(frozenset({7}), digest) for name, digest in claims.items()} | {"other": Claim(frozenset({8}), "1")}
    assert verdict_of(ROW, made, runs) == verdict


@pytest.mark.parametrize(("needs", "verdict"), [(("memory controller",), "proven"), (("SELinux",), "without SELinux")])
def test_what_no_machine_has_is_said(needs: tuple[str, ...], verdict: str) -> None:
    row = Row(7, ROW.section, ROW.level, ROW.asks, needs)
    assert verdict_of(row, {"a": Claim(frozenset({7}), "1")}, {"cgroup-v1": run_of(a="1")}) == verdict


def test_the_document_has_rows_tests_and_places() -> None:
    claims = {"tests/x.py::test_a": Claim(frozenset({7}), "1"), "tests/x.py::test_b": Claim(frozenset({7}), "2")}
    runs = {"cgroup-v2": Run("6.1", [], ["SELinux"], {"tests/x.py::test_a": "1", "tests/x.py::test_b": "1"}, day="2026-01-02")}
    text = document({7: ROW}, claims, runs)
    assert "0 of 1 rows are proven." in text
    assert "| v2 | cgroup v2 alone, in a virtual machine | 6.1 | 2026-01-02 | 1 | has no SELinux |" in text
    assert "- `x.py::test_a`: v2\n- `x.py::test_b`: not run as it is\n" in text


def test_what_failed_is_taken_out_and_what_did_not_run_stays() -> None:
    old = Run("6.0", [], [], {"a": "1", "b": "2", "c": "3"})
    new = Run("6.1", ["x"], [], {"c": "4", "d": "5"}, disproven=["b"])
    assert merged(old, new, "2026-01-02") == Run("6.1", ["x"], [], {"a": "1", "c": "4", "d": "5"}, day="2026-01-02")


class Project:
    """Some marked tests, with the plugin of this project and a table of one row."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["conformance(row, ...): x"]\n')
        pytester.makeconftest("from conformance import claims, plugin, runs\n"
                              "from pathlib import Path\n"
                              "claims.DIRECTORY = Path(__file__).parent\nruns.RUNS = Path(__file__).parent / 'runs'\n"
                              "pytest_addoption = plugin.add_options\n"
                              "def pytest_configure(config):\n    config.pluginmanager.register(plugin.Plugin(config))\n")
        (pytester.path / "rows.toml").write_text(TOML)

    def run(self, source: str, *arguments: str) -> pytest.RunResult:
        self.pytester.makepyfile(test_it=f"import pytest\nrow = pytest.mark.conformance\n{source}")
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", "--conformance-record", *arguments)

    def record(self, source: str, *arguments: str) -> Run:
        lines = [line for line in self.run(source, *arguments).outlines if line.startswith(RECORD_MARK)]
        assert len(lines) == 1, lines
        where, _, text = lines[0].removeprefix(RECORD_MARK).partition(" ")
        assert where == place()
        return Run.from_json(text)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.delenv("CI", raising=False)
    return Project(pytester)


RESULTS = """
@row(7)
def test_good():
    pass

@row(7)
def test_failing():
    assert False

@row(7)
def test_skipped():
    pytest.skip('no')

@row(7)
@pytest.mark.xfail
def test_expected():
    assert False

@row(7)
@pytest.mark.xfail
def test_unexpected():
    pass

@pytest.fixture
def before():
    assert False

@row(7)
def test_setup(before):
    pass

@pytest.fixture
def after():
    yield
    assert False

@row(7)
def test_teardown(after):
    pass

@row(7)
@pytest.mark.parametrize('n', [1, 2])
def test_one_parameter(n):
    assert n == 1

@pytest.mark.parametrize('n', [pytest.param(1, marks=row(7)), 2])
def test_unmarked_parameter(n):
    assert n == 1

def test_without_a_claim():
    pass
"""


def test_what_did_not_pass_is_not_recorded(project: Project) -> None:
    run = project.record(RESULTS)
    assert set(run.passed) == {"test_it.py::test_good"}
    bad = ("expected", "failing", "one_parameter", "setup", "skipped", "teardown", "unexpected", "unmarked_parameter")
    assert run.disproven == [f"test_it.py::test_{name}" for name in bad]


@pytest.mark.parametrize("arguments", [("-k", "not 2"), ("--deselect", "test_it.py::test_some[2]"), ("-x", "--maxfail=1")], ids=str)
def test_what_did_not_run_whole_is_not_recorded(arguments: tuple[str, ...], project: Project) -> None:
    source = "@row(7)\n@pytest.mark.parametrize('n', [1, 2])\ndef test_some(n):\n    pass\n"
    if "-x" in arguments:
        source = "def test_first():\n    assert False\n" + source
    run = project.record(source, *arguments)
    assert (run.passed, run.disproven) == ({}, [])


def test_a_test_that_is_changed_is_another(project: Project) -> None:
    def digest(source: str) -> str:
        (found,) = project.record(source).passed.values()
        return found

    mark, parameters = "@pytest.mark.conformance(7)\n", "@pytest.mark.parametrize('n', [1, 2])\n"
    first = digest(f"{mark}{parameters}def test_x(n):\n    assert n\n")
    assert digest(f"{parameters}@pytest.mark.conformance(\n    7)\ndef test_x(n):\n\n    assert n\n") == first
    assert digest(f"{mark}{parameters[:-3]}, 3])\ndef test_x(n):\n    assert n\n") != first
    assert digest(f"{mark}{parameters}def test_x(n):\n    assert n > 0\n") != first


def test_a_row_that_there_is_not(project: Project) -> None:
    result = project.run("@row(8)\ndef test_x():\n    pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "rows that tests/conformance/rows.toml has not: [8]" in result.stderr.str()


def test_the_contracts_rows_count_for_engines_of_this_project_alone(project: Project) -> None:
    run = project.record("from pyruntime.testing.case import specifies\n"
                         "class Contract:\n    @specifies(7)\n    def test_x(self):\n        pass\n"
                         "class TestOurs(Contract):\n    proves_conformance = True\nclass TestTheirs(Contract):\n    pass\n",
                         "-m", "conformance")
    assert set(run.passed) == {"test_it.py::TestOurs::test_x"}


def test_a_test_that_several_classes_inherit_is_the_same_in_each(project: Project) -> None:
    run = project.record("class Contract:\n    @row(7)\n    @pytest.mark.parametrize('text', ['\\0', {'a': '\\0'}], ids=str)\n"
                         "    def test_x(self, text):\n        pass\n"
                         "class TestOne(Contract):\n    pass\nclass TestTwo(Contract):\n    pass\nclass TestThree(Contract):\n    pass\n")
    assert len(run.passed) == 3 and len(set(run.passed.values())) == 1


@pytest.mark.parametrize("is_ci", [True, False])
def test_a_run_that_contradicts_the_document_says_so_and_fails_in_ci(is_ci: bool, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import os\n@row(7)\ndef test_x():\n    if os.environ.get('LACKS'):\n        pytest.skip('no')\n"
    run = project.record(source)
    (project.pytester.path / "runs").mkdir()
    (project.pytester.path / "runs" / f"{place()}.json").write_text(run.to_json())
    monkeypatch.setenv("CI", "true" if is_ci else "false")
    assert project.run(source).ret == pytest.ExitCode.OK
    monkeypatch.setenv("LACKS", "1")
    result = project.run(source)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if is_ci else pytest.ExitCode.OK)
    assert f"docs/conformance.md says that this passes here ({place()}): test_it.py::test_x" in result.stdout.str()
