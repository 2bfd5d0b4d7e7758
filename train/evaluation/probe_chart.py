"""The chart of layer probes: of one run beside predictions without a model, or of several runs."""

from collections.abc import Mapping, Sequence

import numpy as np

from aalbert.common.text import percent, visible
from aalbert.train.evaluation.probes import LayerProbe
from aalbert.train.report.charts import (
    Chart,
    Key,
    Point,
    level,
    linear_axis,
    series_shape,
    series_style,
)
from aalbert.train.report.curves import LEVEL_STYLES, state_axis, state_name

# Of the distance between two states: the marks of all runs stand beside each other within it.
SPREAD = 0.5


def probe_chart(
    probes: Mapping[str, Sequence[LayerProbe]], metric: str, baselines: Mapping[str, float]
) -> Chart:
    """Draw the metric of the probe of each hidden state of runs by name, with its intervals.

    A run with one state, plain features, is a line across all states beside runs that have more;
    so are `baselines`, predictions without a model.
    """
    states = max(len(each) for each in probes.values())
    every = [bound for own in probes.values() for probe in own for bound in bounds_of(probe)]
    highest = 100 * max(*every, *baselines.values())
    x_axis = state_axis(states)
    y_axis = linear_axis(f"{metric}, %", 0.0, min(100.0, 1.08 * highest) or 1.0, upright=True)
    styles = dict(zip(baselines, LEVEL_STYLES, strict=False))
    lines = [level(y_axis, 100 * baselines[name], style) for name, style in styles.items()]
    points: list[Point] = []
    keys: list[Key] = []
    shifts = np.linspace(-SPREAD, SPREAD, 2 * len(probes) + 1)[1::2].tolist()
    for number, ((name, own), shift) in enumerate(zip(probes.items(), shifts, strict=True)):
        style, shape = series_style(number), series_shape(number)
        if len(own) == 1 and states > 1:
            lines.append(level(y_axis, 100 * own[0].value, f"dashed {style}"))
        for place, probe in enumerate(own):
            low, high = (round(100 - y_axis.at(100 * bound), 2) for bound in bounds_of(probe))
            points.append(
                Point(
                    x=x_axis.at(place + shift),
                    y=round(100 - y_axis.at(100 * probe.value), 2),
                    text=f"{visible(name)}, {probe_text(probe, len(own))}",
                    style=style,
                    shape=shape,
                    low=low if probe.interval_95 else None,
                    high=high if probe.interval_95 else None,
                )
            )
        keys.append(Key(visible(name), style, shape))
    keys += [Key(f"{name}, {percent(baselines[name])}", each) for name, each in styles.items()]
    return Chart(
        description=f"{metric} of a probe on each hidden state",
        x=x_axis,
        y=y_axis,
        lines=lines,
        points=points,
        keys=keys,
    )


def bounds_of(probe: LayerProbe) -> tuple[float, float]:
    """Return the interval of a probe, its value alone where it has none."""
    return probe.interval_95 or (probe.value, probe.value)


def probe_text(probe: LayerProbe, states: int) -> str:
    """Return what the mark of a probe says."""
    stated = f"{state_name(probe.state, states)}: {percent(probe.value)}"
    if probe.interval_95 is None:
        return stated
    low, high = probe.interval_95
    return f"{stated}, 95 % interval {100 * low:.1f} to {100 * high:.1f}"
