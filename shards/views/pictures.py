"""Pictures of a dataset: the features of an utterance, and how its utterances spread.

matplotlib takes half a second to import and is needed by nothing else here, so it is
imported when a picture is drawn.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aalbert.common.files import atomic_write
from aalbert.common.palette import ACCENT, ACCENT_AREA, CONTRAST, INK, INTENSITY_MAP, PAPER
from aalbert.common.png import drawable, png_bytes
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.format.manifest import FeatureStatistics
from aalbert.shards.views.stats import SpeakerTotals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A few extreme numbers would leave the rest of a picture in one colour.
COLOUR_PERCENTILES = (1, 99)
# Speakers' names fit below this many bars.
NAMED_SPEAKERS = 40
HISTOGRAM_BINS = 60
UPRIGHT_NAMES = 12


def utterance_figure(
    arrays: Mapping[str, NDArray[np.float16]], settings: Mapping[str, FeatureSettings], title: str
) -> "Figure":
    """Draw the features `(frames, dims)` of an utterance, one below the other."""
    figure = new_figure(9.0, 0.7 + 2.9 * len(arrays))
    panels = figure.subplots(len(arrays), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, array) in zip(panels, arrays.items(), strict=True):
        values = array.astype(np.float32)
        shift_s = settings[name].frame_shift_ms / 1000
        low, high = np.percentile(values, COLOUR_PERCENTILES) if values.size else (0, 1)
        image = axes.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            cmap=INTENSITY_MAP,
            vmin=low,
            vmax=high,
            interpolation="nearest",
            extent=(0, len(values) * shift_s, -0.5, values.shape[1] - 0.5),
        )
        axes.set_ylabel(f"{name}: {settings[name].dimension_name}")
        label = settings[name].value_name
        figure.colorbar(image, ax=axes, label=label, pad=0.015, extend="both")
    panels[-1].set_xlabel("time (s)")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11)
    return figure


def duration_figure(durations: NDArray[np.float64]) -> "Figure":
    """Draw how many utterances are how long (s), with median and mean."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.5, 3.6)
    axes = figure.add_subplot()
    bins = min(HISTOGRAM_BINS, max(5, 2 * math.isqrt(len(durations))))
    axes.hist(durations, bins=bins, color=ACCENT, edgecolor=PAPER, linewidth=0.4)
    median, mean = float(np.median(durations)), float(durations.mean())
    axes.axvline(median, color=INK, label=f"median {median:.2f} s")
    axes.axvline(mean, color=CONTRAST, linestyle="--", label=f"mean {mean:.2f} s")
    axes.set(xlabel="duration (s)", ylabel="utterances", xlim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False)
    tidy(axes, f"Durations of {len(durations):,} utterances")
    return figure


def speaker_figure(speakers: SpeakerTotals) -> "Figure":
    """Draw utterances and minutes of every speaker, those with the most first."""
    count = len(speakers.names)
    figure = new_figure(9.0, 5.4)
    panels = figure.subplots(2, 1, sharex=True)
    series = [
        (speakers.utterances, ACCENT, "utterances"),
        (speakers.hours * 60, CONTRAST, "minutes"),
    ]
    for axes, (values, colour, label) in zip(panels, series, strict=True):
        # Thousands of bars side by side are one area, each panel in its own order.
        if count > NAMED_SPEAKERS:
            axes.stairs(np.sort(values)[::-1], fill=True, color=colour)
        else:
            axes.bar(np.arange(count) + 0.5, values, color=colour, width=0.8)
        axes.set(ylabel=label, xlim=(0, count), ylim=(0, None))
        tidy(axes, "")
    if count <= NAMED_SPEAKERS:
        rotation = 0 if count <= UPRIGHT_NAMES else 90
        places = np.arange(count) + 0.5
        names = [drawable(name) for name in speakers.names]
        panels[-1].set_xticks(places, names, rotation=rotation, fontsize=9)
    panels[-1].set_xlabel("speaker" if count <= NAMED_SPEAKERS else "speakers")
    title = f"{count:,} speakers, those with the most first"
    panels[0].set_title(title, loc="left", color=INK, fontsize=11)
    return figure


def spectrum_figure(
    name: str, statistics: FeatureStatistics, settings: FeatureSettings
) -> "Figure":
    """Draw the mean of a feature per dimension over all frames, with one deviation around it."""
    mean, std = np.array(statistics.mean), np.array(statistics.std)
    places = np.arange(len(mean))
    figure = new_figure(7.5, 3.8)
    axes = figure.add_subplot()
    axes.fill_between(
        places,
        mean - std,
        mean + std,
        color=ACCENT_AREA,
        linewidth=0,
        label="± one standard deviation",
    )
    axes.plot(places, mean, color=ACCENT, linewidth=1.8, label="mean")
    axes.set(
        xlabel=settings.dimension_name,
        ylabel=settings.value_name,
        xlim=(0, len(mean) - 1),
    )
    axes.legend(frameon=False)
    tidy(axes, f"{name}: mean over {statistics.frames:,} frames")
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG file, finished or absent."""
    with atomic_write(path) as stream:
        stream.write(png_bytes(figure, dots_per_inch=130))


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that many inches, drawn in memory: no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: "Axes", title: str) -> None:
    """Leave only the axes that are read, thousands apart, and say what is shown."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(with_thousands)
    axes.set_title(title, loc="left", color=INK, fontsize=11)


def with_thousands(value: float, _: Any) -> str:
    """Return a number as a tick's label."""
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")
