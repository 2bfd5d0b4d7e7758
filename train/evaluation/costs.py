"""What upstreams cost beside what they achieve: parameters, work, hours of speech.

Sharing layers saves parameters, not work: a layer is computed at every application. So the metric
stands against each of the three.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from aalbert.common.palette import RULE
from aalbert.common.png import drawable
from aalbert.common.text import figure
from aalbert.models.any_upstream import AnyUpstream
from aalbert.models.costs import REFERENCE_SECONDS, macs_per_second
from aalbert.models.downstream import DownstreamModel
from aalbert.models.training_facts import read_facts
from aalbert.models.upstream import Upstream
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream
from aalbert.models.wave_encoders.work import counted_macs_per_second
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import best_first, run_names
from aalbert.train.report.figures import WIDTH, tidy

PANEL_HEIGHT = 2.1
MARKERS = "os^Dv<>Phd*X"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cost:
    """A cost of a run: its name with its unit, and how a result has it; None is unknown."""

    name: str
    of: Callable[[Result], float | None]
    text: Callable[[float], str]


COSTS = (
    Cost(
        "work per second of audio, G multiply-accumulates",
        lambda result: result.macs_per_second / 1e9,
        lambda value: f"{value:.3f}",
    ),
    Cost(
        "parameters of the upstream, millions",
        lambda result: result.upstream_parameters / 1e6,
        lambda value: f"{value:.3f}",
    ),
    Cost(
        "speech pretrained on, hours",
        lambda result: result.pretraining_hours,
        lambda value: f"{value:,.2f}",
    ),
)


def pretraining_hours(model: DownstreamModel, stated: float | None) -> float | None:
    """Return the hours of speech that an upstream was pretrained on, None if nobody knows.

    Plain features, and encoders that begin with random weights, learned from none. What the
    settings of a run have `stated` is taken where nobody recorded them.
    """
    facts = read_facts(model.training_facts)
    upstream = model.upstream
    plain = isinstance(upstream, Upstream) and upstream.encoder is None
    if plain or facts.untrained or facts.from_scratch:
        return 0.0
    recorded = read_facts(upstream.config.training).hours
    return stated if recorded is None else recorded


def work_per_second(upstream: AnyUpstream) -> int:
    """Return the multiply-accumulates of an upstream for a second of audio.

    Those of an encoder of another library are counted from the wave on, those of ours from stored
    features.
    """
    if isinstance(upstream, WaveUpstream):
        return counted_macs_per_second(upstream, REFERENCE_SECONDS)
    return macs_per_second(upstream.config)


def cost_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a header and one row a run, the best first: the metric, and every cost."""
    names = run_names(result.run for result in results)
    header = ["run", results[0].metric.name, *(cost.name for cost in COSTS)]
    rows = []
    for result in best_first(results):
        found = [(cost, cost.of(result)) for cost in COSTS]
        cells = [UNKNOWN if value is None else cost.text(value) for cost, value in found]
        metric = figure(result.metric.value, share=result.metric.share)
        rows.append([names[result.run], metric, *cells])
    return [header, *rows]


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
    points = []
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
        scale_axis(axes, known)
        axes.set(xlabel=cost.name, ylabel=results[0].metric.name + ", %" * share)
        axes.grid(color=RULE)
        tidy(axes)
    labels = [drawable(names[result.run]) for result in ordered]
    picture.legend(points, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
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
    # Not as powers: texts of figures are drawn as they are written.
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
