"""Charts of what is measured over the steps of a training run, and of the weights of a mix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aalbert.common.text import number
from aalbert.train.report.charts import (
    Axis,
    Cell,
    Chart,
    Floats,
    Key,
    Line,
    Point,
    level,
    line,
    linear_axis,
    name_axis,
    pointed,
)

# Lines of all trivial predictors would be too close to one another.
DRAWN_PREDICTORS = ("corpus_mean", "interpolation", "linear")
LEVEL_STYLES = ("dotted soft", "dashed soft", "mixed soft")
# A curve with so many measurements is smoothed, over this share of them.
FEWEST_SMOOTHED, SMOOTHED_SHARE = 20, 0.04
# Room above and below what is drawn, as a share of its range.
MARGIN = 0.06
# One curve of the two that a chart may have is measured at every batch.
STYLES = ("contrast", "accent")

Measured = Sequence[Mapping[str, Any]]


def curve_chart(
    measurements: Measured,
    series: Mapping[str, str],
    unit: str,
    levels: Mapping[str, float] | None = None,
    *,
    smooth: str = "",
) -> Chart:
    """Draw measured values over steps; `series` maps names of measurements to labels.

    `levels` are values to compare them with. The series `smooth` is drawn as the mean of what is
    measured around a step, before the curve that it is made of.
    """
    found = {name: values_of(measurements, name) for name in series}
    levels = levels or {}
    values = np.concatenate([*(values for _, values in found.values()), list(levels.values())])
    steps = np.concatenate([steps for steps, _ in found.values()])
    margin = MARGIN * float(np.ptp(values))
    low, high = float(values.min()) - margin, float(values.max()) + margin
    if values.min() >= 0:
        low = max(0.0, low)
    y_axis = linear_axis(unit, low, high, upright=True)
    x_axis = linear_axis("step", min(0.0, float(steps.min())), float(steps.max()))
    lines: list[Line] = []
    points: list[Point] = []
    keys: list[Key] = []
    for value, style in zip(levels.values(), LEVEL_STYLES, strict=False):
        lines.append(level(y_axis, value, style))
    for (name, label), style in zip(series.items(), STYLES[-len(series) :], strict=True):
        at, measured = found[name]
        window = smoothing_window(len(measured)) if name == smooth else 1
        if window > 1:
            lines.append(line(x_axis, y_axis, at, measured, f"raw {style}"))
            keys.append(Key(f"{label}, as measured", f"raw {style}"))
            label = f"{label}, mean of {window} measurements"
            measured = smoothed(measured, window)
        lines.append(line(x_axis, y_axis, at, measured, style))
        keys.append(Key(label, style))
        points += said(x_axis, y_axis, at, measured, (label, style))
    keys += [
        Key(f"{name}, {number(value)}", style)
        for (name, value), style in zip(levels.items(), LEVEL_STYLES, strict=False)
    ]
    described = ", ".join(series.values())
    return Chart(
        description=f"{unit} over the steps of training: {described}",
        x=x_axis,
        y=y_axis,
        lines=lines,
        points=points,
        # A single line is what its axis says.
        keys=keys if len(keys) > 1 else (),
    )


def values_of(measurements: Measured, name: str) -> tuple[Floats, Floats]:
    """Return the steps at which something was measured, and what was."""
    rows = [(row["step"], row[name]) for row in measurements if name in row]
    steps, values = np.array(rows, np.float64).reshape(-1, 2).T
    return steps, values


def smoothing_window(count: int) -> int:
    """Return over how many of so many measurements a mean is taken: an odd number."""
    return 1 if count < FEWEST_SMOOTHED else 2 * max(1, round(count * SMOOTHED_SHARE / 2)) + 1


def smoothed(values: Floats, window: int) -> Floats:
    """Return the mean of the values around each, of fewer at the ends."""
    kernel = np.ones(window)
    sums = np.convolve(values, kernel, "same")
    means: Floats = sums / np.convolve(np.ones(len(values)), kernel, "same")
    return means


def said(
    x_axis: Axis, y_axis: Axis, at: Floats, values: Floats, named: tuple[str, str]
) -> list[Point]:
    """Return the points of a line that say their numbers; seen are those of a short line."""
    label, style = named
    shape = "dot" if len(values) <= FEWEST_SMOOTHED else "ring"
    return [
        Point(
            x=x_axis.at(at[place]),
            y=round(100 - y_axis.at(values[place]), 2),
            text=f"{label}\nstep {at[place]:,.0f}: {number(values[place])}",
            style=style,
            shape=shape,
        )
        for place in pointed(len(values))
    ]


def loss_chart(measurements: Measured, predictors: Mapping[str, float]) -> Chart:
    """Draw the losses of pretraining over steps, with those of trivial predictors as lines."""
    losses = {"train_loss": "training", "validation_loss": "held out"}
    levels = {name.replace("_", " "): predictors[name] for name in DRAWN_PREDICTORS}
    return curve_chart(measurements, losses, "loss of hidden frames", levels, smooth="train_loss")


def layer_chart(weights: Sequence[float]) -> Chart:
    """Draw the weight of each hidden state in the mix that the head reads, beside even weights."""
    x_axis, even = state_axis(len(weights)), 1 / len(weights)
    y_axis = linear_axis("weight in the mix", 0.0, 1.1 * max(weights), upright=True)
    width = 100 / len(weights)
    cells = [
        Cell(
            x=round(width * (place + 0.15), 2),
            y=round(100 - y_axis.at(weight), 2),
            width=round(0.7 * width, 2),
            height=y_axis.at(weight),
            text=f"{state_name(place, len(weights))}: {weight:.3f}",
        )
        for place, weight in enumerate(weights)
    ]
    return Chart(
        description="the weight of each hidden state in the mix",
        x=x_axis,
        y=y_axis,
        height=180,
        cells=cells,
        lines=[level(y_axis, even, LEVEL_STYLES[0])],
        keys=[Key(f"even weights, {even:.3f}", LEVEL_STYLES[0])],
    )


def state_axis(states: int) -> Axis:
    """Return an axis of hidden states, from the encoder's input on."""
    if states == 1:
        return name_axis("", ["features"])
    every = 1 if states <= 13 else 2 if states <= 25 else 4
    names = [str(state) if state % every == 0 else "" for state in range(states)]
    return name_axis("hidden state: 0 is the encoder's input, others are layers", names)


def state_name(state: int, states: int) -> str:
    """Return the name of a hidden state: the encoder's input, or a layer."""
    if states == 1:
        return "features"
    return f"layer {state}" if state else "input"
