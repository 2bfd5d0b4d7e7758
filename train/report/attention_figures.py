"""The figures of an encoder's attention: its maps, and the similarity of its heads and layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import DIVERGENCE_MAP, INK, INTENSITY_MAP, PAPER

# Colours end at this quantile of all maps: a few sharp peaks would leave the rest dark. They begin
# where a frame gets a tenth of what it would get if all got the same.
BRIGHTEST_QUANTILE, DARKEST, LEAST_BRIGHTEST = 0.999, 0.1, 10.0
MAP_INCHES, LARGEST_INCHES, SCALE_INCHES = 1.35, 18.0, 5.0
# With more layers the numbers do not fit into the cells of a matrix.
NUMBERED_LAYERS = 12
# Of the largest divergence; cells with lower values are dark.
DARK_SHARE = 0.45


def attention_figure(maps: NDArray[np.float32], frame_shift_ms: float) -> Figure:
    """Draw attention maps `(layers, heads, frames, frames)`: a row per layer, a column per head.

    In a map, a row is a query frame and a column a key frame; a diagonal is a head that attends to
    neighbouring frames, a vertical line one that always attends to the same sounds. All maps have
    one logarithmic scale: how many times even attention a frame gets.
    """
    layers, heads, frames, _ = maps.shape
    size = min(MAP_INCHES, LARGEST_INCHES / max(layers, heads))
    figure = Figure(figsize=(size * heads + 2.0, size * layers + 1.1), layout="constrained")
    panels = figure.subplots(layers, heads, squeeze=False)
    seconds = frames * frame_shift_ms / 1000
    times_even = maps * frames
    brightest = max(float(np.quantile(times_even, BRIGHTEST_QUANTILE)), LEAST_BRIGHTEST)
    scale = LogNorm(DARKEST, brightest, clip=True)
    for layer, row in enumerate(panels):
        for head, axes in enumerate(row):
            image = axes.imshow(
                times_even[layer, head],
                cmap=INTENSITY_MAP,
                norm=scale,
                extent=(0, seconds, seconds, 0),
                interpolation="nearest",
            )
            # Not shared: every map would set all axes anew, half of the time for 144 maps.
            ends = [0, round(seconds, 1)]
            axes.set_xticks(ends, ends if layer == layers - 1 else ["", ""])
            axes.set_yticks(ends, ends if head == 0 else ["", ""])
            axes.tick_params(labelsize=7, length=2)
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=8, color=INK)
        row[0].set_ylabel(f"layer {layer + 1}", fontsize=8, color=INK)
    figure.supxlabel("key frame (s)", fontsize=9, color=INK)
    figure.supylabel("query frame (s)", fontsize=9, color=INK)
    bar = figure.colorbar(
        image,
        ax=panels,
        label="attention, times that of even attention",
        extend="both",
        shrink=min(1.0, SCALE_INCHES / (size * layers)),
        aspect=25,
    )
    # Not as powers: texts of figures are drawn as they are written.
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.label.set_fontsize(8)
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


def head_similarity_figure(heads: NDArray[np.float32]) -> Figure:
    """Draw the divergences `(layers, heads, layers, heads)` of all pairs of heads, in bits.

    The heads of a layer stand together, between lines; the first one is at the left and on top.
    """
    layers, count = heads.shape[:2]
    figure = Figure(figsize=(6.8, 5.4), layout="constrained")
    axes = figure.add_subplot()
    matrix = heads.reshape(layers * count, layers * count)
    image = axes.imshow(matrix, cmap=DIVERGENCE_MAP, vmin=0, vmax=max(float(matrix.max()), 1e-3))
    for border in np.arange(1, layers) * count - 0.5:
        axes.axhline(border, color=INK, linewidth=0.8)
        axes.axvline(border, color=INK, linewidth=0.8)
    middles = (np.arange(layers) + 0.5) * count - 0.5
    numbers = [str(layer + 1) for layer in range(layers)]
    axes.set_xticks(middles, numbers)
    axes.set_yticks(middles, numbers)
    axes.set(xlabel=f"layer, each with {count} head{'s' * (count > 1)}", ylabel="layer")
    figure.colorbar(image, ax=axes, label="Jensen-Shannon divergence (bits)", shrink=0.85)
    return figure


def write_numbers(axes: Axes, matrix: NDArray[np.float32], largest: float) -> None:
    """Write every number into its cell, in a colour that contrasts with it."""
    for (row, column), value in np.ndenumerate(matrix):
        colour = PAPER if value < DARK_SHARE * largest else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
