"""What the project wants to reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass

from bench.samples import Ratio, Series, ratio, summarize


@dataclass(frozen=True)
class Goal:
    """`contender`'s median of `phase`, over `base`'s if there is one, against a limit."""

    title: str
    measurement: str
    contender: str
    phase: str
    limit: float
    base: str | None = None
    at_least: bool = False
    unit: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """A goal with what was measured; `value` is None where it was not, or not all of it."""

    goal: Goal
    value: float | None
    ratio: Ratio | None

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value >= self.goal.limit if self.goal.at_least else self.value <= self.goal.limit
        return "met" if met else "MISSED"


GOALS = (
    Goal("cycle over the floor", "cycle", "native", "cycle", 1.25, base="floor"),
    Goal("cycle over crun run", "cycle", "native", "cycle", 0.45, base="crun"),
    Goal("cycle over runc run", "cycle", "native", "cycle", 0.17, base="runc"),
    Goal("exec over crun exec", "exec", "native", "cycle", 0.25, base="crun"),
    Goal("five commands over runc's", "commands", "pyruntime", "cycle", 1.0, base="runc"),
    Goal("the same, bundles of an engine", "commands", "pyruntime engine", "cycle", 1.0, base="runc engine"),
    Goal("the same, bundles like none before", "commands", "pyruntime new", "cycle", 1.0, base="runc new"),
    Goal("run over runc run, as commands", "run", "pyruntime", "cycle", 1.0, base="runc"),
    Goal("exec over runc exec, as commands", "exec-command", "pyruntime", "cycle", 1.0, base="runc"),
    Goal("cycle with 2 GiB over without", "resident", "with 2 GiB", "cycle", 1.1, base="without"),
    Goal("memory of a created init", "memory", "native", "pss_kib", 200, unit="KiB"),
    Goal("state of a created container", "state", "created", "state", 100, unit="us", scale=1e-3),
    Goal("state of a running container", "state", "running", "state", 100, unit="us", scale=1e-3),
    Goal(
        *("two threads over one", "throughput", "2 threads", "containers_per_s", 1.5),
        base="1 thread",
        at_least=True,
    ),
)


def judge(results: dict[str, Series]) -> list[Outcome]:
    return [_judge(goal, results.get(goal.measurement, {})) for goal in GOALS]


def _judge(goal: Goal, series: Series) -> Outcome:
    samples = series.get(goal.contender)
    if not samples:
        return Outcome(goal, None, None)
    if goal.base is None:
        return Outcome(goal, summarize(samples, goal.phase).median * goal.scale, None)
    base = series.get(goal.base)
    if not base:
        return Outcome(goal, None, None)
    of_both = ratio(samples, base, goal.phase)
    return Outcome(goal, of_both.of_medians, of_both)
