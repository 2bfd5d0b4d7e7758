"""Charts of a page: what is drawn, in percent of the plot; `templates/charts.html` draws it.

A chart is SVG inside the page: its lines stretch with the page, its text has the size of the page's
at any width, its colours follow light and dark, and every mark says its numbers. All texts that may
be long are outside of the plot, where they wrap: no two can overlap.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Colours that tell things apart, and the shapes of their points.
COLOURS = 10
SHAPES = ("circle", "square", "triangle", "diamond", "down", "cross")
# The width of a plot on a phone and that of a letter, in CSS pixels.
NARROWEST_PLOT, LETTER = 280, 8.5
# A line has no more of them that say their numbers.
MOST_POINTED = 60
# Of a line; more cannot be told apart on a page.
MOST_DRAWN = 800


@dataclass(frozen=True)
class Tick:
    """A place of an axis, in percent from its start, and what is written there."""

    place: float
    text: str


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis: its name with its unit, its ticks, and the place of values in percent.

    `names` are those of data, which have a direction of writing of their own.
    """

    label: str
    ticks: Sequence[Tick]
    place: Callable[[Floats], Floats]
    of_names: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value, in percent from the start."""
        return round(float(self.place(np.array([value], np.float64))[0]), 2)

    @property
    def letters(self) -> int:
        """The length of the longest text at a tick."""
        return max((len(tick.text) for tick in self.ticks), default=0)


@dataclass(frozen=True)
class Line:
    """A path through points, in tenths of a percent from the left and from above."""

    path: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mark at a place, in percent from the left and from above, and what it says.

    `low` and `high` are the ends of its interval, if it has one. One without a shape is seen only
    where it is pointed at.
    """

    x: float
    y: float
    text: str
    style: str
    shape: str = "circle"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A rectangle, in percent, and what it says; `strength` is the share of its colour, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    text: str
    style: str = "accent"
    strength: float = 1.0


@dataclass(frozen=True)
class Key:
    """An entry of a legend: what a style, with a shape or as a line, stands for."""

    text: str
    style: str
    shape: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Chart:
    """What is drawn between two axes; `description` is for those who do not see it.

    `height` and `least_width` are in CSS pixels; a wider chart than the page scrolls. With
    `upright_names` the texts below are written upwards. `picture` is the `data:` address of one
    that fills the plot.
    """

    description: str
    x: Axis
    y: Axis
    height: int = 240
    least_width: int = 0
    upright_names: bool = False
    picture: str | None = None
    lines: Sequence[Line] = ()
    points: Sequence[Point] = ()
    cells: Sequence[Cell] = ()
    keys: Sequence[Key] = ()


def linear_axis(label: str, low: float, high: float, *, upright: bool = False) -> Axis:
    """Return an axis from one value to another, with ticks at round numbers between them.

    An `upright` one may have as many as are legible above each other, others those that fit beside
    each other on a phone.
    """
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
    for count in (6, 5, 4, 3, 2, 1):
        ticks = round_ticks(low, high, count)
        texts = number_texts(ticks)
        if upright or fits(texts):
            break

    def place(values: Floats) -> Floats:
        places: Floats = 100 * (values - low) / (high - low)
        return places

    return Axis(label, with_texts(place(np.array(ticks)), texts), place)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about so many round numbers from one number to another."""
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next(each for each in (1, 2, 5, 10) if each * power >= rough * 0.999))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [number * step for number in range(first, last + 1)]


def number_texts(values: Sequence[float]) -> list[str]:
    """Return numbers with as many decimals as tell them apart."""
    for decimals in range(7):
        texts = [f"{value:,.{decimals}f}" for value in values]
        exact = all(abs(float(f"{value:.{decimals}f}") - value) < 1e-9 for value in values)
        if exact:
            return texts
    return [f"{value:.3g}" for value in values]


def fits(texts: Sequence[str]) -> bool:
    """Return whether texts are legible beside each other below the plot of a phone."""
    return sum(len(text) + 2 for text in texts) * LETTER <= NARROWEST_PLOT


def with_texts(places: Floats, texts: Iterable[str]) -> list[Tick]:
    """Return ticks at places."""
    return [Tick(round(float(place), 2), text) for place, text in zip(places, texts, strict=True)]


def name_axis(label: str, names: Sequence[str], *, of_names: bool = False) -> Axis:
    """Return an axis with a place for each of some names, numbered from 0."""
    count = len(names)

    def place(values: Floats) -> Floats:
        places: Floats = 100 * (values + 0.5) / count
        return places

    return Axis(
        label, with_texts(place(np.arange(count, dtype=np.float64)), names), place, of_names
    )


def thinned(x: Floats, y: Floats, most: int = MOST_DRAWN) -> tuple[Floats, Floats]:
    """Return at most so many points of a line, with the lowest and the highest of each stretch."""
    if len(x) <= most:
        return x, y
    kept: list[int] = []
    for part in np.array_split(np.arange(len(x)), most // 2):
        kept += sorted({int(part[y[part].argmin()]), int(part[y[part].argmax()])})
    return x[kept], y[kept]


def line(x_axis: Axis, y_axis: Axis, x: Floats, y: Floats, style: str) -> Line:
    """Return a line through points."""
    x, y = thinned(x, y)
    across, down = 10 * x_axis.place(x), 10 * (100 - y_axis.place(y))
    places = " ".join(f"{a:.0f} {d:.0f}" for a, d in zip(across, down, strict=True))
    return Line(f"M{places}", style)


def level(y_axis: Axis, value: float, style: str) -> Line:
    """Return a line at a height, from left to right."""
    down = 10 * (100 - y_axis.at(value))
    return Line(f"M0 {down:.0f} 1000 {down:.0f}", style)


def pointed(count: int) -> list[int]:
    """Return which of so many points of a line say their numbers: the first, the last, others."""
    if count <= MOST_POINTED:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, MOST_POINTED).tolist()]


def series_style(number: int) -> str:
    """Return the colour of one of several things."""
    return f"s{number % COLOURS}"


def series_shape(number: int) -> str:
    """Return the shape of the points of one of several things."""
    return SHAPES[number % len(SHAPES)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gauge:
    """The colours of a picture and the values that they stand for, from the darkest on."""

    picture: str
    label: str
    low: str
    high: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """A chart with a title and what belongs below it: a recording, of an example."""

    title: str
    chart: Chart
    gauge: Gauge | None = None
    audio: str | None = None
    facts: Sequence[str] = field(default=())
    wrong: bool = False
