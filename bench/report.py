"""The results as text and as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.goals import Outcome
from bench.samples import Series, summarize

UNITS: Mapping[str, tuple[str, float]] = {
    "pss_kib": ("KiB", 1),
    "containers_per_s": ("per s", 1),
    "state": ("us", 1e-3),
}
"""Unit and scale by phase; other phases are nanoseconds, shown as milliseconds."""

TITLES: Mapping[str, str] = {
    "cycle": "a container's life: create, start, wait, delete",
    "repeated": "the same cycle, ten times in a row",
    "exec": "/bin/true in a running container",
    "commands": "the commands create, start, state, kill, delete; engine: bundles of one kind; new: a bundle like none before",
    "run": "the command run, of one bundle",
    "exec-command": "the command exec of /bin/true in a running container",
    "resident": "the native cycle, by the memory that its caller holds",
    "memory": "proportional set size of a created container's init",
    "state": "one get_container_state, by the container's status",
    "throughput": "containers from one process; floor: from one process and from two",
    "steps": "the steps of the floor's create",
}


def host() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  " + "  ".join([cells[0].ljust(widths[0]), *others]).rstrip()

    return "\n".join(line(row) for row in [header, *rows])


def format_series(measurement: str, series: Series) -> str:
    """Every phase of every contender."""
    rows = []
    for contender, samples in series.items():
        for phase in samples[0]:
            unit, scale = UNITS.get(phase, ("ms", 1e-6))
            summary = summarize(samples, phase)
            numbers = [f"{value * scale:.3f}" for value in (summary.median, summary.p10, summary.p90)]
            rows.append([contender, phase, *numbers, unit, str(summary.count)])
    header = ["contender", "phase", "median", "p10", "p90", "unit", "count"]
    return f"{measurement}: {TITLES[measurement]}\n{_table(header, rows)}\n"


def format_goals(outcomes: Sequence[Outcome]) -> str:
    """The goals; the spread is that of the ratios within each round."""
    rows = []
    for outcome in outcomes:
        goal, ratio = outcome.goal, outcome.ratio
        value = "-" if outcome.value is None else f"{outcome.value:.3g} {goal.unit}".strip()
        limit = f"{'>=' if goal.at_least else '<='} {goal.limit:g} {goal.unit}".strip()
        paired = f"{ratio.median_paired:.3g} ({ratio.p10_paired:.3g} - {ratio.p90_paired:.3g})" if ratio else ""
        rows.append([goal.title, value, limit, paired, outcome.verdict])
    return "goals\n" + _table(["ratio of medians", "value", "goal", "paired: median (p10 - p90)", ""], rows) + "\n"


def write_json(
    path: Path,
    facts: Mapping[str, Any],
    results: Mapping[str, Series],
    outcomes: Sequence[Outcome],
    notes: Sequence[str],
) -> None:
    """Everything, with every sample; times in nanoseconds."""
    summaries = {
        measurement: {
            contender: {phase: dataclasses.asdict(summarize(samples, phase)) for phase in samples[0]}
            for contender, samples in series.items()
        }
        for measurement, series in results.items()
    }
    document = {
        "host": dict(facts),
        "goals": [{**dataclasses.asdict(outcome), "verdict": outcome.verdict} for outcome in outcomes],
        "notes": list(notes),
        "summaries": summaries,
        "samples": dict(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
