"""The figure of what upstreams cost beside what they achieve."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from aalbert.common.palette import RULE
from aalbert.common.png import drawable
from aalbert.train.evaluation.costs import COSTS
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import best_first, run_names
from aalbert.train.report.figures import WIDTH, tidy

PANEL_HEIGHT = 2.1
MARKERS = "os^Dv<>Phd*X"


def cost_figure(results: Sequence[Result]) -> Figure:
    """Draw the metric of every run with its interval over each cost, a panel below the other.

    Costs grow by factors, so their axes are logarithmic, with a place for zero at the left. A run
    whose cost is unknown has no point there.
    """
    ordered, share = best_first(results), results[0].metric.share
    factor = 100 if share else 1
    names = run_names(result.run for result in results)
    height = PANEL_HEIGHT * len(COSTS) + 0.25 * ((len(results) + 1) // 2)
    picture = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = picture.subplots(len(COSTS), 1)
    marks: list[Any] = []
    for axes, cost in zip(panels, COSTS, strict=True):
        known = [value for result in ordered if (value := cost.of(result)) is not None]
        points = [
            axes.errorbar(
                [] if (value := cost.of(result)) is None else [value],
                [] if value is None else [factor * result.metric.value],
                None if value is None else reach(result, factor),
                fmt=MARKERS[number % len(MARKERS)],
                color=f"C{number % 10}",
                capsize=3,
            )
            for number, result in enumerate(ordered)
        ]
        # The work of every run is known, so the first panel has all marks with their intervals.
        marks = marks or points
        scale_axis(axes, known)
        axes.set(xlabel=cost.name, ylabel=results[0].metric.name + ", %" * share)
        axes.grid(color=RULE)
        tidy(axes)
    labels = [drawable(names[result.run]) for result in ordered]
    picture.legend(marks, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return picture


def reach(result: Result, factor: int) -> list[list[float]]:
    """Return how far the interval reaches below and above the metric, times a factor."""
    low, high = result.metric.interval_95
    value = result.metric.value
    return [[factor * max(0.0, value - low)], [factor * max(0.0, high - value)]]


def scale_axis(axes: Any, values: Sequence[float]) -> None:
    """Make the axis of costs logarithmic from the power of ten below the least one above zero."""
    above_zero = [value for value in values if value > 0] or [1.0]
    start = 10.0 ** math.floor(math.log10(min(above_zero)))
    axes.set_xscale("symlog", linthresh=start, linscale=0.5)
    axes.set_xlim(-0.2 * start, 2 * max(above_zero))
    axes.xaxis.set_minor_locator(SymmetricalLogLocator(linthresh=start, base=10, subs=range(2, 10)))
    # Not as powers: texts of figures are drawn as they are written.
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
