"""The chart of misses over false alarms: the DET curves of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from aalbert.common.text import percent, visible
from aalbert.train.downstream.error_rates import (
    TARGET_PRIORS,
    ErrorRates,
    detection_cost,
    probit,
)
from aalbert.train.report.charts import (
    Axis,
    Chart,
    Floats,
    Key,
    Line,
    Point,
    fits,
    line,
    pointed,
    series_style,
    with_texts,
)

# The outer ones are where rates of 0 and 1 are drawn.
DET_TICKS = (
    *(0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2),
    *(0.4, 0.6, 0.8, 0.9, 0.98, 0.999, 0.9999),
)
# At least these are shown.
DET_RANGE = (0.005, 0.6)
Fill = Literal["open", "filled"]
COSTS: dict[Fill, str] = {"open": "minDCF", "filled": "actDCF"}
SHAPES = dict(zip(TARGET_PRIORS, ("circle", "square"), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class DetCurve:
    """The errors of a run at every threshold, and at the `actual` one of each target prior."""

    name: str
    rates: ErrorRates
    actual: Mapping[float, ErrorRates] = field(default_factory=dict)

    def points(self, prior: float) -> list[tuple[Fill, ErrorRates]]:
        """Return the operating points of a prior; that of least cost is `open`."""
        best = detection_cost(self.rates, prior).argmin()
        at_best = ErrorRates(self.rates.misses[[best]], self.rates.false_alarms[[best]])
        points: list[tuple[Fill, ErrorRates]] = [("open", at_best)]
        return points + ([("filled", self.actual[prior])] if prior in self.actual else [])


def det_ticks(curves: Sequence[DetCurve]) -> list[float]:
    """Return the ticks from below to above all operating points, which are thus on the curves."""
    marked = [curve.points(prior) for curve in curves for prior in TARGET_PRIORS]
    points = [point for each in marked for _, point in each]
    rates = np.concatenate([DET_RANGE, *(each.misses for each in points)])
    rates = np.concatenate([rates, *(each.false_alarms for each in points)])
    ticks = np.array(DET_TICKS)
    first = np.searchsorted(ticks, rates.min(), side="right") - 1
    last = np.searchsorted(ticks, rates.max())
    return list(DET_TICKS[max(0, int(first)) : int(last) + 1])


def det_axis(label: str, ticks: Sequence[float], *, upright: bool = False) -> Axis:
    """Return an axis of rates on which normal scores give straight lines.

    Every second tick has a text where all would not fit beside each other on a phone.
    """
    start, end = (float(probit(np.array([ticks[place]]))[0]) for place in (0, -1))

    def place(rates: Floats) -> Floats:
        places: Floats = 100 * (probit(rates) - start) / (end - start)
        return np.clip(places, 0, 100)

    texts = [f"{100 * tick:g}" for tick in ticks]
    every = 1 if upright or fits(texts) else 2
    chosen = list(range(0, len(ticks), every))
    places = place(np.array(ticks)[chosen])
    return Axis(label, with_texts(places, [texts[number] for number in chosen]), place)


def det_chart(curves: Sequence[DetCurve]) -> Chart:
    """Draw misses over false alarms on probit axes, a curve for every run, with marks on it.

    They are at the threshold of least cost for each target prior, open, and at the actual one,
    filled.
    """
    ticks = det_ticks(curves)
    x_axis = det_axis("false alarms: two speakers taken for one, % of their trials", ticks)
    y_axis = det_axis("misses: one speaker taken for two, % of its trials", ticks, upright=True)
    axes = (x_axis, y_axis)
    lines = [Line("M0 1000 1000 0", "dotted soft")]
    points: list[Point] = []
    keys: list[Key] = []
    for place, curve in enumerate(curves):
        name, style, rates = visible(curve.name), series_style(place), curve.rates
        lines.append(line(x_axis, y_axis, rates.false_alarms, rates.misses, style))
        keys.append(Key(name, style))
        along = [
            mark(
                axes, ErrorRates(rates.misses[[number]], rates.false_alarms[[number]]), name, style
            )
            for number in pointed(len(rates.misses))
        ]
        marks = [
            mark(
                axes,
                point,
                f"{name}, {COSTS[fill]} at {prior:g}",
                f"{style} {fill}",
                SHAPES[prior],
            )
            for prior in TARGET_PRIORS
            for fill, point in curve.points(prior)
        ]
        points += along + marks
    fills = [each for each in COSTS if each == "open" or any(curve.actual for curve in curves)]
    keys += [
        Key(f"{COSTS[fill]} at {prior:g}", f"ink {fill}", SHAPES[prior])
        for fill in fills
        for prior in TARGET_PRIORS
    ]
    return Chart(
        description="misses over false alarms of every run",
        x=x_axis,
        y=y_axis,
        height=380,
        lines=lines,
        points=points,
        keys=keys,
    )


def mark(
    axes: tuple[Axis, Axis], rates: ErrorRates, name: str, style: str, shape: str = "ring"
) -> Point:
    """Return the mark of the first of some rates."""
    false_alarms, misses = float(rates.false_alarms[0]), float(rates.misses[0])
    return Point(
        x=axes[0].at(false_alarms),
        y=round(100 - axes[1].at(misses), 2),
        text=f"{name}\nfalse alarms {percent(false_alarms)}, misses {percent(misses)}",
        style=style,
        shape=shape,
    )
