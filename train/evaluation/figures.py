"""Charts of an evaluation: confusion, predicted numbers, probes of layers, embeddings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aalbert.common.text import number, percent, visible
from aalbert.train.downstream.confusion import Confusion
from aalbert.train.report.charts import (
    Cell,
    Chart,
    Key,
    Point,
    line,
    linear_axis,
    name_axis,
)

Floats = NDArray[np.float64]
# More classes would be too narrow on a phone for their names.
CLASSES_SHOWN = 20
# A row of a matrix is as high and at least as wide as a letter, in CSS pixels.
CELL_HEIGHT, CELL_WIDTH = 20, 15
# More colours and shapes cannot be distinguished.
COLOURED_CLASSES = 12
# More points would hide one another, and weigh as much as all else on a page.
MOST_POINTS = 2_000
# Longer names would leave no room for what is drawn; the whole name is said by every mark.
MOST_LETTERS = 14


def short_name(name: str) -> str:
    """Return a name for an axis: the beginning and the end of a long one."""
    shown = visible(name)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[:8]}…{shown[-5:]}"


def confusion_chart(
    confusion: Confusion, names: Sequence[str], chosen: NDArray[np.int64], kind: str = "class"
) -> Chart:
    """Draw the confusion matrix of the chosen classes, as shares of the true class (row).

    A last column is the share that was predicted as classes that are not shown. What a row lacks
    to 1 was deleted. `kind` is what a class is.
    """
    totals = np.maximum(1, confusion.totals()[chosen])
    block = confusion.among(chosen) / totals[:, None]
    rows = [visible(names[place]) for place in chosen]
    columns = rows
    if len(chosen) < len(names):
        block = np.column_stack([block, confusion.beyond(chosen) / totals])
        columns = [*rows, "all others"]
    # The first row is above.
    y_axis = name_axis(f"true {kind}", list(map(short_name, rows[::-1])), of_names=True)
    x_axis = name_axis(f"predicted {kind}", list(map(short_name, columns)), of_names=True)
    width, height = 100 / len(columns), 100 / len(rows)
    cells = [
        Cell(
            x=round(width * column, 2),
            y=round(height * row, 2),
            width=round(width, 2),
            height=round(height, 2),
            text=f"{rows[row]} predicted as {columns[column]}: {percent(share)}",
            strength=round(float(share), 2),
        )
        for (row, column), share in np.ndenumerate(block)
    ]
    return Chart(
        description=f"confusion matrix: the share of each true {kind} by predicted {kind}",
        x=x_axis,
        y=y_axis,
        height=CELL_HEIGHT * len(rows),
        least_width=CELL_WIDTH * len(columns),
        upright_names=True,
        cells=cells,
    )


def scatter_chart(true: Floats, predicted: Floats, unit: str) -> Chart:
    """Draw predicted numbers over true ones, on equal axes; on the line they are equal."""
    both = np.concatenate([true, predicted])
    margin = 0.05 * float(np.ptp(both)) or 1.0
    ends = (float(both.min()) - margin, float(both.max()) + margin)
    name = visible(unit)
    x_axis = linear_axis(f"{name}, true", *ends)
    y_axis = linear_axis(f"{name}, predicted", *ends, upright=True)
    points = [
        Point(
            x=x_axis.at(true[place]),
            y=round(100 - y_axis.at(predicted[place]), 2),
            text=f"true {number(true[place])}, predicted {number(predicted[place])}",
            style="accent faint",
            shape="dot",
        )
        for place in drawn_places(len(true))
    ]
    return Chart(
        description=f"predicted {name} over the true one of every utterance",
        x=x_axis,
        y=y_axis,
        height=340,
        lines=[line(x_axis, y_axis, np.array(ends), np.array(ends), "dotted soft")],
        points=points,
        keys=[Key("an utterance", "accent", "dot"), Key("predicted = true", "dotted soft")],
    )


def drawn_places(count: int) -> NDArray[np.int64]:
    """Return which of so many points are drawn: all, or some that are drawn by chance."""
    if count <= MOST_POINTS:
        return np.arange(count)
    generator = np.random.default_rng(0)
    chosen: NDArray[np.int64] = np.sort(generator.choice(count, MOST_POINTS, replace=False))
    return chosen
