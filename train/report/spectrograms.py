"""Spectrograms of a page: a small picture of the colours, and axes of seconds and frequencies."""

import struct
import zlib
from collections.abc import Sequence
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray

from aalbert.common.palette import INTENSITY_MAP
from aalbert.common.text import number
from aalbert.shards.format.feature_settings import (
    KALDI_LOWEST_HERTZ,
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
)
from aalbert.shards.format.mel_filters import mel_edges
from aalbert.train.report.charts import (
    Axis,
    Chart,
    Floats,
    Gauge,
    Tick,
    linear_axis,
    with_texts,
)
from aalbert.train.report.figures import png_uri

# A few extreme numbers would leave the rest of a picture in one colour.
COLOUR_PERCENTILES = (1, 99)
# On a mel axis they are far enough from one another at the height of a spectrogram.
TICKS_HERTZ = (200.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0)
# Of a spectrogram and of a line of text, in CSS pixels.
HEIGHT, LINE = 150, 17
Limits = tuple[float, float]


def limits_of(*frames: NDArray[np.floating]) -> Limits:
    """Return between which values colours differ, for all of some spectrograms."""
    values = np.concatenate([np.asarray(each, np.float32).ravel() for each in frames])
    low, high = np.nanpercentile(values, COLOUR_PERCENTILES)
    return float(low), float(high)


def spectrogram_chart(
    frames: NDArray[np.floating], shift_ms: float, axis: Axis, limits: Limits, description: str
) -> Chart:
    """Draw frames `(frames, dims)` over seconds, with the colours between two values.

    NaN is blank.
    """
    seconds = len(frames) * shift_ms / 1000
    shares = (np.asarray(frames, np.float64) - limits[0]) / max(limits[1] - limits[0], 1e-9)
    return Chart(
        description=description,
        x=linear_axis("time, s", 0.0, seconds),
        y=axis,
        height=HEIGHT,
        picture=png_uri(coloured_png(shares.T[::-1])),
    )


def gauge_of(label: str, limits: Limits) -> Gauge:
    """Return what the colours of spectrograms stand for: values that `label` names."""
    return Gauge(
        picture=png_uri(coloured_png(np.linspace(0, 1, 64)[None])),
        label=label,
        low=number(limits[0]),
        high=number(limits[1]),
    )


def frequencies(settings: FeatureSettings) -> Floats | None:
    """Return the frequency in Hz that each number of a frame is about; None if there is none."""
    if isinstance(settings, LinearSettings):
        return np.arange(settings.dims) * settings.sample_rate / settings.fft_size
    if isinstance(settings, LogMelSettings | FbankSettings):
        lowest = KALDI_LOWEST_HERTZ if isinstance(settings, FbankSettings) else 0.0
        return np.array(mel_edges(lowest, settings.sample_rate / 2, settings.mels)[1:-1])
    return None


def frequency_axis(settings: FeatureSettings) -> Axis:
    """Return the axis of the numbers of a frame: in Hz, or their own where they have none."""
    hertz, dims = frequencies(settings), settings.dims
    if hertz is None:
        return linear_axis(settings.dimension_name, 0.0, float(dims), upright=True)
    inside = [tick for tick in TICKS_HERTZ if hertz[0] <= tick <= hertz[-1]]

    def place(values: Floats) -> Floats:
        places: Floats = 100 * (np.interp(values, hertz, np.arange(dims)) + 0.5) / dims
        return places

    ticks = with_texts(place(np.array(inside)), [f"{tick:,.0f}" for tick in inside])
    return Axis(f"{settings.dimension_name}, by its frequency in Hz", apart(ticks), place)


def apart(ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ticks that are far enough above the one before."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.place - kept[-1].place > 100 * LINE / HEIGHT:
            kept.append(tick)
    return kept


@cache
def colours() -> bytes:
    """Return the colours of spectrograms, three bytes each, after the first, which is none."""
    table = matplotlib.colormaps[INTENSITY_MAP](np.linspace(0, 1, 255), bytes=True)
    return bytes(3) + bytes(np.ascontiguousarray(table[:, :3]))


def coloured_png(shares: Floats) -> bytes:
    """Return values `(rows, columns)` from 0 to 1 as the bytes of a PNG file; NaN is transparent.

    It has 256 colours and so a quarter of the bytes that others have.
    """
    rows, columns = shares.shape
    indices = np.nan_to_num(1 + np.round(254 * np.clip(shares, 0, 1)), nan=0.0).astype(np.uint8)
    # Each row begins with the number of its filter, none.
    lines = np.column_stack([np.zeros(rows, np.uint8), indices])
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", colours()),
        # The first colour is transparent.
        (b"tRNS", b"\x00"),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
