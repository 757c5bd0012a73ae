"""Samples: taking them in random order, and what can be said about them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, float]
"""One run of one contender: nanoseconds by phase, or whatever the measurement counts."""

Series = dict[str, list[Sample]]
"""Samples by contender; the n-th of each were taken in the same round."""

WARM_UP_ROUNDS = 3


class ContenderError(Exception):
    """A contender cannot do what is measured; it is left out, and the report says so."""


def describe(error: Exception) -> str:
    return str(error) if isinstance(error, ContenderError) else f"{type(error).__name__}: {error}"


def interleave(
    rounds: int, contenders: Mapping[str, Callable[[], Sample]], notes: list[str], settle_s: float = 0.0
) -> Series:
    """Run every contender once per round, in an order that differs from round to round, with a pause after each."""
    series: Series = {name: [] for name in contenders}
    failed: set[str] = set()
    for turn in range(-WARM_UP_ROUNDS, rounds):
        for name in random.sample(list(contenders), len(contenders)):
            if name in failed:
                continue
            try:
                sample = contenders[name]()
            except Exception as error:  # whatever it is, the others go on
                notes.append(f"{name}: {describe(error)}")
                failed.add(name)
                continue
            if turn >= 0:
                series[name].append(sample)
            time.sleep(settle_s)
    return {name: samples for name, samples in series.items() if name not in failed}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


@dataclass(frozen=True)
class Summary:
    """Of one phase of one contender."""

    median: float
    p10: float
    p90: float
    count: int


def summarize(samples: Sequence[Sample], phase: str) -> Summary:
    values = [sample[phase] for sample in samples]
    return Summary(statistics.median(values), percentile(values, 10), percentile(values, 90), len(values))


@dataclass(frozen=True)
class Ratio:
    """Of two contenders. `of_medians` is what the goals speak of; the others come from the ratios within each round."""

    of_medians: float
    median_paired: float
    p10_paired: float
    p90_paired: float


def ratio(samples: Sequence[Sample], base: Sequence[Sample], phase: str) -> Ratio:
    paired = [sample[phase] / other[phase] for sample, other in zip(samples, base, strict=True)]
    return Ratio(
        of_medians=summarize(samples, phase).median / summarize(base, phase).median,
        median_paired=statistics.median(paired),
        p10_paired=percentile(paired, 10),
        p90_paired=percentile(paired, 90),
    )
