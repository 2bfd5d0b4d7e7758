"""Charts of what upstreams cost beside what they achieve."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from aalbert.common.text import figure, figure_interval, visible
from aalbert.train.evaluation.costs import COSTS, Cost
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import best_first, run_names
from aalbert.train.report.charts import (
    Axis,
    Chart,
    Floats,
    Key,
    Point,
    fits,
    level,
    linear_axis,
    name_axis,
    series_shape,
    series_style,
    with_texts,
)
from aalbert.train.report.curves import LEVEL_STYLES

# Of the axis, for values below the first power of ten: zero is there.
SHARE_OF_ZERO = 0.12
MARGIN = 0.15
# Between marks of one cost, in percent of the axis.
DODGE = 1.8


def cost_charts(results: Sequence[Result]) -> list[Chart]:
    """Draw the metric of every run with its interval over each cost.

    Costs grow by factors, so their axes are logarithmic, with a place for zero at the left. A run
    whose cost is unknown has no point there. Runs are told apart by the legend of the last chart.
    """
    ordered, share = best_first(results), results[0].metric.share
    names = run_names(result.run for result in results)
    keys = run_keys(ordered, names)
    bounds = np.array([result.metric.interval_95 for result in ordered]) * (100 if share else 1)
    margin = MARGIN * float(np.ptp(bounds)) or 1.0
    y_axis = linear_axis(
        results[0].metric.name + ", %" * share,
        float(bounds.min()) - margin,
        float(bounds.max()) + margin,
        upright=True,
    )
    charts = []
    for cost in COSTS:
        known = [value for result in ordered if (value := cost.of(result)) is not None]
        x_axis = cost_axis(cost.name, known)
        points = [
            cost_point(
                result,
                names[result.run],
                cost,
                place,
                (x_axis, y_axis),
                # To the right of those of the same cost.
                DODGE * [cost.of(each) for each in ordered[:place]].count(cost.of(result)),
            )
            for place, result in enumerate(ordered)
            if cost.of(result) is not None
        ]
        charts.append(
            Chart(
                description=f"{results[0].metric.name} of every run over its {cost.name}",
                x=x_axis,
                y=y_axis,
                height=190,
                points=points,
                keys=keys if cost is COSTS[-1] else (),
            )
        )
    return charts


def result_chart(results: Sequence[Result]) -> Chart:
    """Draw the metric of every run with its interval, the best first, beside the baselines."""
    metric, ordered = results[0].metric, best_first(results)
    names = run_names(result.run for result in results)
    factor = 100 if metric.share else 1
    values = [bound for result in results for bound in result.metric.interval_95]
    values += [*metric.baselines.values()]
    low, high = factor * min(0.0, *values), factor * max(values)
    y_axis = linear_axis(
        metric.name + ", %" * metric.share, low, high + 0.06 * (high - low), upright=True
    )
    x_axis = name_axis("runs, the best first", [""] * len(ordered))
    styles = dict(zip(metric.baselines, LEVEL_STYLES, strict=False))
    return Chart(
        description=f"{metric.name} of every run",
        x=x_axis,
        y=y_axis,
        lines=[
            level(y_axis, factor * metric.baselines[name], style) for name, style in styles.items()
        ],
        points=[
            Point(
                x=x_axis.at(place),
                y=round(100 - y_axis.at(factor * result.metric.value), 2),
                text=result_text(result, names[result.run]),
                style=series_style(place),
                shape=series_shape(place),
                low=round(100 - y_axis.at(factor * result.metric.interval_95[0]), 2),
                high=round(100 - y_axis.at(factor * result.metric.interval_95[1]), 2),
            )
            for place, result in enumerate(ordered)
        ],
        keys=[
            *run_keys(ordered, names),
            *(
                Key(f"{name}, {figure(metric.baselines[name], share=metric.share)}", style)
                for name, style in styles.items()
            ),
        ],
    )


def run_keys(ordered: Sequence[Result], names: Mapping[str, str]) -> list[Key]:
    """Return what colour and shape a run has in all charts."""
    return [
        Key(visible(names[result.run]), series_style(place), series_shape(place))
        for place, result in enumerate(ordered)
    ]


def result_text(result: Result, name: str) -> str:
    """Return a run with its metric and interval."""
    metric = result.metric
    interval = figure_interval(metric.interval_95, share=metric.share)
    stated = figure(metric.value, share=metric.share)
    return f"{visible(name)}\n{metric.name} {stated} ({interval})"


def cost_point(
    result: Result, name: str, cost: Cost, place: int, axes: tuple[Axis, Axis], dodge: float
) -> Point:
    """Return the mark of a run."""
    x_axis, y_axis = axes
    metric, value = result.metric, cost.of(result)
    assert value is not None
    factor = 100 if metric.share else 1
    low, high = (round(100 - y_axis.at(factor * bound), 2) for bound in metric.interval_95)
    return Point(
        x=round(x_axis.at(value) + dodge, 2),
        y=round(100 - y_axis.at(factor * metric.value), 2),
        text=f"{result_text(result, name)}\n{cost.name}: {cost.text(value)}",
        style=series_style(place),
        shape=series_shape(place),
        low=low,
        high=high,
    )


def cost_axis(label: str, values: Sequence[float]) -> Axis:
    """Return a logarithmic axis from the power of ten below the least value above zero.

    Values from zero to that power have a part of the axis before it, on which they are linear.
    """
    above_zero = [value for value in values if value > 0] or [1.0]
    first = math.floor(math.log10(min(above_zero)))
    last = math.ceil(math.log10(max(above_zero)) + 1e-9)
    start = 10.0**first

    def place(costs: Floats) -> Floats:
        powers = np.log10(np.maximum(costs, start)) - first
        rest = np.minimum(costs, start) / start
        shares = SHARE_OF_ZERO * rest + (1 - SHARE_OF_ZERO) * powers / (last - first)
        places: Floats = 4 + 94 * shares
        return places

    for every, factors in ((1, (1, 2, 5)), (1, (1,)), (2, (1,)), (3, (1,)), (4, (1,))):
        powers = [10.0**power for power in range(first, last + 1, every)]
        rounded = [factor * power for power in powers for factor in factors]
        ticks = [0.0, *(tick for tick in rounded if tick <= 10.0**last)]
        texts = [f"{tick:,g}" if tick < 1e6 else f"{tick:g}" for tick in ticks]
        if fits(texts):
            break
    return Axis(label, with_texts(place(np.array(ticks)), texts), place)
