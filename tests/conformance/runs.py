"""What was seen to pass, by place: tests/conformance/runs/PLACE.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

RUNS = Path(__file__).parent / "runs"
# before a record in the output of pytest
RECORD_MARK = "conformance-record: "


@dataclass(frozen=True)
class Run:
    """`passed` has the digest of each test function as it was when it passed; `disproven` is not kept."""

    kernel: str
    has: list[str]
    lacks: list[str]
    passed: dict[str, str]
    disproven: list[str] = field(default_factory=list)
    day: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Run:
        return Run(**json.loads(text))


def read_runs() -> dict[str, Run]:
    """By place."""
    return {path.stem: Run.from_json(path.read_text()) for path in sorted(RUNS.glob("*.json"))}


def write_run(place: str, run: Run) -> None:
    """A line for each test, so that changes can be read."""
    RUNS.mkdir(exist_ok=True)
    content = {name: value for name, value in asdict(run).items() if name != "disproven"} | {"passed": dict(sorted(run.passed.items()))}
    (RUNS / f"{place}.json").write_text(json.dumps(content, indent=1) + "\n")


def merged(old: Run | None, new: Run, day: str) -> Run:
    """Both together: what failed now is not kept, what did not run is."""
    kept = {name: digest for name, digest in (old.passed if old else {}).items() if name not in new.disproven}
    return Run(new.kernel, new.has, new.lacks, kept | new.passed, day=day)
