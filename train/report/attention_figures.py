"""The figures of an encoder's attention: its maps, and the similarity of its layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import DIVERGENCE_MAP, INK, INTENSITY_MAP, PAPER

# A map is drawn from 0 to this quantile: a few sharp peaks would leave the rest dark.
BRIGHTEST_QUANTILE = 0.995
MAP_INCHES, LARGEST_INCHES = 1.35, 18.0
# With more layers the numbers do not fit into the cells of a matrix.
NUMBERED_LAYERS = 12
# Of the largest divergence; cells with lower values are dark.
DARK_SHARE = 0.45


def attention_figure(maps: NDArray[np.float32], frame_shift_ms: float) -> Figure:
    """Draw attention maps `(layers, heads, frames, frames)`: a row per layer, a column per head.

    In a map, a row is a query frame and a column a key frame; a diagonal is a head that attends to
    neighbouring frames, a vertical line one that always attends to the same sounds.
    """
    layers, heads, frames, _ = maps.shape
    size = min(MAP_INCHES, LARGEST_INCHES / max(layers, heads))
    figure = Figure(figsize=(size * heads + 1.2, size * layers + 1.1), layout="constrained")
    panels = figure.subplots(layers, heads, sharex=True, sharey=True, squeeze=False)
    seconds = frames * frame_shift_ms / 1000
    for layer, row in enumerate(panels):
        for head, axes in enumerate(row):
            shown = maps[layer, head]
            axes.imshow(
                shown,
                cmap=INTENSITY_MAP,
                vmin=0,
                vmax=max(float(np.quantile(shown, BRIGHTEST_QUANTILE)), 1e-9),
                extent=(0, seconds, seconds, 0),
                interpolation="antialiased",
            )
            axes.set_xticks([0, round(seconds, 1)])
            axes.set_yticks([0, round(seconds, 1)])
            axes.tick_params(labelsize=7, length=2)
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=8, color=INK)
        row[0].set_ylabel(f"layer {layer + 1}", fontsize=8, color=INK)
    figure.supxlabel("key frame (s)", fontsize=9, color=INK)
    figure.supylabel("query frame (s)", fontsize=9, color=INK)
    return figure


def similarity_figure(averaged: NDArray[np.float32], closest: NDArray[np.float32]) -> Figure:
    """Draw the divergences `(layers, layers)` of attention, in bits, of averages and best pairs."""
    layers = len(averaged)
    figure = Figure(figsize=(8.4, 4.3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    largest = max(float(averaged.max()), float(closest.max()), 1e-3)
    titles = ("maps averaged over heads", "the two most similar heads")
    for axes, matrix, title in zip(panels, (averaged, closest), titles, strict=True):
        image = axes.imshow(matrix, cmap=DIVERGENCE_MAP, vmin=0, vmax=largest)
        axes.set_title(title, fontsize=10, loc="left", color=INK)
        axes.set_xlabel("layer")
        axes.set_xticks(range(layers), range(1, layers + 1))
        axes.set_yticks(range(layers), range(1, layers + 1))
        if layers <= NUMBERED_LAYERS:
            write_numbers(axes, matrix, largest)
    panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=list(panels), label="Jensen-Shannon divergence (bits)", shrink=0.85)
    return figure


def write_numbers(axes: Axes, matrix: NDArray[np.float32], largest: float) -> None:
    """Write every number into its cell, in a colour that contrasts with it."""
    for (row, column), value in np.ndenumerate(matrix):
        colour = PAPER if value < DARK_SHARE * largest else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
