"""The figure of layer probes: of one run beside predictions without a model, or of several runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aalbert.common.palette import INK
from aalbert.common.png import drawable
from aalbert.train.evaluation.probes import LayerProbe
from aalbert.train.report.figures import WIDTH, tidy
from aalbert.train.report.layer_figures import name_states

MARKERS = "os^Dv<>Phd*X"
# Of the distance between two states: the marks of all runs stand beside each other within it.
SPREAD = 0.5
# Of that of the axes.
NAME_HEIGHT = 0.08


def probe_figure(
    probes: Mapping[str, Sequence[LayerProbe]], metric: str, baselines: Mapping[str, float]
) -> Figure:
    """Draw the metric of the probe of each hidden state of runs by name, with its intervals.

    A run with one state, plain features, is a line across all states beside runs that have more;
    so are `baselines`, predictions without a model.
    """
    states = max(len(each) for each in probes.values())
    legend_rows = math.ceil(len(probes) / 2) if len(probes) > 1 else 0
    figure = Figure(figsize=(WIDTH, 3.0 + 0.25 * legend_rows), layout="constrained")
    axes = figure.add_subplot()
    shifts = np.linspace(-SPREAD, SPREAD, 2 * len(probes) + 1)[1::2]
    marks: list[Any] = []
    for number, (own, shift) in enumerate(zip(probes.values(), shifts, strict=True)):
        colour, values = f"C{number % 10}", np.array([100 * probe.value for probe in own])
        if len(own) == 1 and states > 1:
            axes.axhline(values[0], color=colour, linewidth=1, linestyle="--")
        bounds = [probe.interval_95 or (probe.value, probe.value) for probe in own]
        reach = np.abs(100 * np.array(bounds).T - values)
        places = np.arange(len(own)) + shift
        marker = MARKERS[number % len(MARKERS)]
        marks.append(axes.errorbar(places, values, reach, fmt=marker, color=colour, capsize=3))
    name_states(axes, states)
    axes.set(ylabel=f"{metric}, %")
    axes.set_ylim(bottom=0)
    draw_baselines(axes, baselines)
    tidy(axes)
    if len(probes) > 1:
        figure.legend(
            marks,
            [drawable(name) for name in probes],
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=8,
        )
    return figure


def draw_baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """Draw a line for each baseline, with its name beside the axes; close ones share a text."""
    place, apart = axes.get_yaxis_transform(), NAME_HEIGHT * axes.get_ylim()[1]
    named: list[tuple[float, list[str]]] = []
    for name, value in sorted(baselines.items(), key=lambda each: each[1]):
        axes.axhline(100 * value, color=INK, linewidth=0.8, linestyle=":")
        if named and 100 * value - named[-1][0] < apart:
            named[-1][1].append(name)
        else:
            named.append((100 * value, [name]))
    for level, names in named:
        # 1 is the width of the axes.
        axes.text(1.01, level, "\n".join(names), transform=place, fontsize=7, va="center")
