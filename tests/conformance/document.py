"""docs/conformance.md: written from the rows, from what the tests claim now, and from what was recorded to pass.

    python tests/conformance/document.py          # write it
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.claims import Claim, Row, read_rows  # noqa: E402  # of the path above
from conformance.places import PLACES  # noqa: E402
from conformance.runc_suite import read_suite, suite_section  # noqa: E402
from conformance.runs import Run, read_runs  # noqa: E402

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/conformance.md"
COLUMNS = {"cgroup-v1": "v1", "cgroup-v2": "v2", "systemd": "systemd", "selinux": "SELinux"}
INTRODUCTION = """\
# Conformance to the OCI runtime specification

Made by `make conformance` from `tests/conformance/rows.toml`, from the tests' `conformance` marks, and from what was recorded to pass.
A test counts where it passed with the text and the parameters that it has now; one that was changed since counts again when it
was run again (`make conformance-run`). CI fails if this document is not what the tests claim, and if a test does not pass that it runs and
that is said here to pass where it runs it: all of those on the host, and some of those in virtual machines. Of a row nothing is said but
what its tests show.

Where runc's own tests of its command line come out otherwise with this one is [told at the end](#runcs-tests-of-its-command-line), from
`tests/conformance/runc_suite.toml`.

"""


def claims_now() -> dict[str, Claim]:
    """What all tests claim, by collecting and not running them. Raises RuntimeError with pytest's output."""
    with tempfile.NamedTemporaryFile(prefix="claims-", suffix=".json") as file:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", f"--conformance-claims={file.name}",
                   "tests"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode:
            # behind a line for each test
            raise RuntimeError(f"the tests cannot be collected:\n{(result.stdout + result.stderr)[-2000:]}")
        claims = json.loads(Path(file.name).read_text())
    return {name: Claim(frozenset(claim["rows"]), claim["digest"]) for name, claim in claims.items()}


def places_of(name: str, claim: Claim, runs: Mapping[str, Run]) -> list[str]:
    """Where the test passed as it is."""
    return [place for place in PLACES if place in runs and runs[place].passed.get(name) == claim.digest]


def verdict_of(row: Row, claims: Mapping[str, Claim], runs: Mapping[str, Run]) -> str:
    """In a word or two: of all the row's tests, whatever they are."""
    places = {name: places_of(name, claim, runs) for name, claim in claims.items() if row.number in claim.rows}
    count = sum(map(bool, places.values()))
    if not count:
        return "**unproven**" if places else "**unproven: no test**"
    if count < len(places):
        return f"{count} of {len(places)} tests"
    passed_in = {place for found in places.values() for place in found}
    if not any(set(row.needs) <= set(runs[place].has) for place in passed_in):
        return f"without {', '.join(row.needs)}"
    return "proven"


def _of_place(place: str, run: Run) -> str:
    lacks = f"has no {', '.join(run.lacks)}" if run.lacks else "lacks nothing that a row needs"
    return f"| {COLUMNS[place]} | {PLACES[place]} | {run.kernel} | {run.day} | {len(run.passed)} | {lacks} |"


def document(rows: Mapping[int, Row], claims: Mapping[str, Claim], runs: Mapping[str, Run]) -> str:
    """The whole text."""
    verdicts = {number: verdict_of(row, claims, runs) for number, row in rows.items()}
    proven = sum(verdict == "proven" for verdict in verdicts.values())
    # what passed once and is claimed no more, or was changed, does not count
    counted = {place: Run(**{**vars(run), "passed": {name: digest for name, digest in run.passed.items()
                                                    if name in claims and claims[name].digest == digest}})
               for place, run in runs.items()}
    lines = [INTRODUCTION + f"{proven} of {len(rows)} rows are proven.", "", "## Where", "",
             "| | place | kernel | last run | tests that count | the machine |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [_of_place(place, counted[place]) for place in PLACES if place in counted]
    lines += ["", "`without X` is said of a row that no machine above can show in effect, since none has X: its tests are of the plan, of what",
              "is written to a tree of plain files that stands for X, and of how it is refused where there is none.", "", "## Rows", "",
              "| row | asks | level | |", "| --- | --- | --- | --- |"]
    lines += [f"| [{number}](#row-{number}) | {row.asks} | {row.level} | {verdicts[number]} |" for number, row in rows.items()]
    for number, row in rows.items():
        lines += ["", f"### Row {number}", "", f"{row.section}: {verdicts[number]}."]
        tests = sorted(name for name, claim in claims.items() if number in claim.rows)
        if tests:
            lines.append("")
        for name in tests:
            found = ", ".join(COLUMNS[place] for place in places_of(name, claims[name], runs))
            lines.append(f"- `{name.removeprefix('tests/')}`: {found or 'not run as it is'}")
    return "\n".join([*lines, "", *suite_section(read_suite())]) + "\n"


def current_document() -> str:
    """As it has to be now."""
    return document(read_rows(), claims_now(), read_runs())


if __name__ == "__main__":
    DOCUMENT.write_text(current_document())
