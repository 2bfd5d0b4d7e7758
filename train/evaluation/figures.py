"""The figures of an evaluation: confusion, DET curve, examples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from aalbert.common.palette import ACCENT, INK, QUIET, RULE, SHARE_MAP, WRONG
from aalbert.common.png import drawable
from aalbert.train.downstream.confusion import Confusion
from aalbert.train.downstream.error_rates import (
    TARGET_PRIORS,
    ErrorRates,
    detection_cost,
    probit,
)
from aalbert.train.report.figures import WIDTH, draw_spectrogram, tidy

Floats = NDArray[np.float64]
# The names on the axes of a larger confusion matrix would be too small to read.
CLASSES_SHOWN = 24
# The outer ones are where rates of 0 and 1 are drawn.
DET_TICKS = (
    *(0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2),
    *(0.4, 0.6, 0.8, 0.9, 0.98, 0.999, 0.9999),
)
# At least these are shown.
DET_RANGE = (0.005, 0.6)
# Of operating points: one for each target prior, and filled where the threshold is the actual one.
DET_MARKERS = ("o", "s")
# Both can be seen where they are at one place.
DET_MARKER_SIZES = {"o": 9, "s": 5}
Fill = Literal["none", "full"]
DET_FILLS: dict[Fill, str] = {"none": "minDCF", "full": "actDCF"}
EXAMPLE_SECONDS = 3.0


def confusion_figure(
    confusion: Confusion, names: Sequence[str], chosen: NDArray[np.int64], kind: str = "class"
) -> Figure:
    """Draw the confusion matrix of the chosen classes, as shares of the true class (row).

    A last column is the share that was predicted as classes that are not shown. What a row lacks
    to 1 was deleted. `kind` is what a class is.
    """
    totals = np.maximum(1, confusion.totals()[chosen])
    block = confusion.among(chosen) / totals[:, None]
    labels = [drawable(names[number]) for number in chosen]
    columns = labels
    if len(chosen) < len(names):
        block = np.column_stack([block, confusion.beyond(chosen) / totals])
        columns = [*labels, "all others"]
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(block, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, label=f"share of the true {kind}", shrink=0.7)
    return figure


def scatter_figure(true: Floats, predicted: Floats, unit: str) -> Figure:
    """Draw predicted numbers over true ones, on equal axes; on the line they are equal."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    both = np.concatenate([true, predicted])
    margin = 0.05 * float(np.ptp(both)) or 1.0
    ends = (float(both.min()) - margin, float(both.max()) + margin)
    axes.plot(ends, ends, color=QUIET, linewidth=0.8, linestyle=":", label="predicted = true")
    axes.scatter(true, predicted, s=12, color=ACCENT, alpha=0.6, linewidths=0)
    name = drawable(unit)
    axes.set(xlabel=f"{name}, true", ylabel=f"{name}, predicted", xlim=ends, ylim=ends)
    ticks = [tick for tick in axes.get_xticks() if ends[0] <= tick <= ends[1]]
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(color=RULE)
    # Above the axes, where no point lies.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    tidy(axes)
    return figure


@dataclass(frozen=True, eq=False, kw_only=True)
class DetCurve:
    """The errors of a run at every threshold, and at the `actual` one of each target prior."""

    name: str
    rates: ErrorRates
    actual: Mapping[float, ErrorRates] = field(default_factory=dict)

    def points(self, prior: float) -> list[tuple[Fill, ErrorRates]]:
        """Return the operating points of a prior and the fill of their marks, `none` if best."""
        best = detection_cost(self.rates, prior).argmin()
        at_best = ErrorRates(self.rates.misses[[best]], self.rates.false_alarms[[best]])
        points: list[tuple[Fill, ErrorRates]] = [("none", at_best)]
        return points + ([("full", self.actual[prior])] if prior in self.actual else [])


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


def det_figure(curves: Sequence[DetCurve]) -> Figure:
    """Draw misses over false alarms on probit axes, a curve for every run, with marks on it.

    They are at the threshold of least cost for each target prior, open, and at the actual one,
    filled.
    """
    # Left to find the names itself, matplotlib leaves out those that begin with an underscore.
    names = [drawable(curve.name) for curve in curves]
    marks = [
        Line2D([], [], color=INK, marker=marker, fillstyle=fill, linestyle="")
        for fill in DET_FILLS
        for marker in DET_MARKERS
    ]
    meanings = [f"{cost} at {prior:g}" for cost in DET_FILLS.values() for prior in TARGET_PRIORS]
    shown = len(marks) if any(curve.actual for curve in curves) else len(DET_MARKERS)
    names += meanings[:shown]
    # Below the axes, where no curve is.
    figure = Figure(figsize=(WIDTH, 4.2 + 0.2 * math.ceil(len(names) / 2)), layout="constrained")
    axes = figure.add_subplot()
    shown_ticks = det_ticks(curves)
    ticks = probit(np.array(shown_ticks))
    limits = (float(ticks[0]), float(ticks[-1]))
    axes.plot(ticks, ticks, color=QUIET, linewidth=0.8, linestyle=":")
    lines = []
    for curve in curves:
        rates = curve.rates
        # Over the axes' own lines, on which a curve without errors of a kind lies.
        [line] = axes.plot(probit(rates.false_alarms), probit(rates.misses), zorder=2.6)
        lines.append(line)
        for prior, marker in zip(TARGET_PRIORS, DET_MARKERS, strict=True):
            for fill, point in curve.points(prior):
                axes.plot(
                    probit(point.false_alarms),
                    probit(point.misses),
                    marker,
                    color=line.get_color(),
                    fillstyle=fill,
                    markersize=DET_MARKER_SIZES[marker],
                    clip_on=False,
                    zorder=3,
                )
    labels = [f"{100 * tick:g}" for tick in shown_ticks]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.set(xlim=limits, ylim=limits, xlabel="false alarms, %", ylabel="misses, %")
    axes.grid(color=RULE)
    axes.tick_params(labelsize=8)
    figure.legend(
        [*lines, *marks[:shown]],
        names,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    tidy(axes)
    return figure


@dataclass(frozen=True, eq=False)
class Example:
    """An example utterance: a title, its spectrogram `(frames, dims)`, its correctness."""

    title: str
    features: NDArray[np.float16]
    correct: bool


def examples_figure(examples: Sequence[Example], frame_shift_ms: float) -> Figure:
    """Draw the first seconds of utterances; the colour of a title marks correct and wrong ones."""
    figure = Figure(figsize=(WIDTH, 1.5 * len(examples)), layout="constrained")
    frames = round(EXAMPLE_SECONDS * 1000 / frame_shift_ms)
    panels = figure.subplots(len(examples), 1, sharex=True, squeeze=False)[:, 0]
    for axes, example in zip(panels, examples, strict=True):
        shown = np.asarray(example.features[:frames], np.float32)
        low, high = np.percentile(shown, [1, 99])
        draw_spectrogram(axes, shown, frame_shift_ms, (low, high))
        mark, colour = ("correct", ACCENT) if example.correct else ("wrong", WRONG)
        axes.set_title(f"{mark}: {example.title}", fontsize=9, loc="left", color=colour)
        axes.set_yticks([])
    panels[-1].set_xlabel("seconds")
    return figure
