"""The figures of reports, and their conversion to PNG data inside a page."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import ACCENT, INTENSITY_MAP, QUIET, SOFT_INK
from aalbert.common.png import png_bytes

# The width in inches, 750 dots: letters stay legible when a phone shows half of the dots.
WIDTH, DOTS_PER_INCH = 5.0, 150
# Lines of all trivial predictors would be too close to one another.
DRAWN_PREDICTORS = ("corpus_mean", "interpolation", "linear")


def to_data_uri(figure: Figure) -> str:
    """Return a figure as `data:image/png;base64,...`."""
    return png_uri(to_png(figure))


def png_uri(png: bytes) -> str:
    """Return the bytes of a PNG file as `data:image/png;base64,...`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def to_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    return png_bytes(figure, DOTS_PER_INCH)


def curve_figure(
    measurements: Sequence[dict[str, Any]],
    series: dict[str, str],
    ylabel: str,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw measured values over steps; `series` maps names of measurements to labels.

    `levels` are values to compare them with, drawn as horizontal lines with their names.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, label), colour in zip(series.items(), (QUIET, ACCENT), strict=False):
        points = [(row["step"], row[name]) for row in measurements if name in row]
        # A line of a single point would be invisible.
        marker = "o" if len(points) == 1 else None
        axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=SOFT_INK, linewidth=0.8, linestyle=":")
        # Beside the right end of the line: 1 is the width of the axes. The lowest name is below its
        # line, the others above, since the two lowest lines may be close.
        side = "top" if level == min((levels or {}).values()) else "bottom"
        place = axes.get_yaxis_transform()
        axes.text(1.01, level, name, transform=place, fontsize=7, va=side, color=SOFT_INK)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.legend(frameon=False)
    tidy(axes)
    return figure


def loss_figure(measurements: Sequence[dict[str, Any]], predictors: Mapping[str, float]) -> Figure:
    """Draw the losses of pretraining over steps, with those of trivial predictors as lines."""
    losses = {"train_loss": "training", "validation_loss": "held out"}
    levels = {name.replace("_", " "): predictors[name] for name in DRAWN_PREDICTORS}
    return curve_figure(measurements, losses, "loss of hidden frames", levels)


def draw_spectrogram(
    axes: Any, frames: NDArray[np.float32], frame_shift_ms: float, limits: tuple[float, float]
) -> None:
    """Draw frames `(frames, dims)` over seconds, with the colours between two values."""
    seconds = len(frames) * frame_shift_ms / 1000
    axes.imshow(
        frames.T,
        origin="lower",
        aspect="auto",
        cmap=INTENSITY_MAP,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, seconds, 0, frames.shape[1]),
    )


def tidy(axes: Any) -> None:
    """Hide the top and right spines of axes."""
    axes.spines[["top", "right"]].set_visible(False)
