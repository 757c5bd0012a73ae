"""The results as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.samples import Series, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASES = {
    "create": "#3b6ea5",
    "start": "#e0912f",
    "exec": "#3b6ea5",
    "wait": "#6aa56a",
    "delete": "#b04a4a",
    "cycle": "#888888",
}
"""Colour by phase; `cycle` is drawn where there are no parts."""

BARS = {"cycle": "create + start + wait + delete", "exec": "/bin/true in a running container"}


def draw(results: Mapping[str, Series], path: Path) -> str | None:
    """Write a PNG; return why it could not, if so."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return "no chart: matplotlib is not installed (it is in the extra `bench`)"
    shown = [measurement for measurement in BARS if results.get(measurement)]
    if not shown:
        return "no chart: nothing to draw was measured"
    figure, axes = pyplot.subplots(len(shown), 1, figsize=(9, 1.2 + 2.2 * len(shown)), squeeze=False)
    for measurement, row in zip(shown, axes, strict=True):
        _draw_bars(row[0], results[measurement])
        row[0].set_title(BARS[measurement], loc="left", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return None


def _draw_bars(axes: Axes, series: Series) -> None:
    """Medians stacked by phase, in milliseconds; the whisker ends at the 90th percentile of the whole."""
    labelled: set[str] = set()
    order = sorted(series, key=lambda name: -summarize(series[name], "cycle").median)
    for name in order:
        samples = series[name]
        whole = summarize(samples, "cycle")
        parts = [phase for phase in samples[0] if phase != "cycle"] or ["cycle"]
        left = 0.0
        for phase in parts:
            width = summarize(samples, phase).median / 1e6
            label = phase if phase not in labelled and phase != "cycle" else None
            labelled.add(phase)
            axes.barh(name, width, left=left, color=PHASES[phase], label=label)
            left += width
        axes.plot([left, whole.p90 / 1e6], [name, name], color="black", linewidth=1)
        axes.annotate(f" {whole.median / 1e6:.2f}", (max(left, whole.p90 / 1e6), name), va="center", fontsize=9)
    axes.set_xlabel("milliseconds, median (whisker: 90th percentile)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    if labelled - {"cycle"}:
        axes.legend(frameon=False, fontsize=8, ncols=4)
