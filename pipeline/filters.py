"""What features multiply with: windows, mel filters, the cosine transform. Constants of settings.

All are computed in float64 and handed out in float32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.settings import KALDI_LOWEST_HERTZ, mel_edges

# OpenBLAS starts threads for products of 2**18 multiplications and more. Below that the sums
# are added in one order, whatever number of threads it has been given.
LARGEST_PRODUCT = 2**18 - 1


@dataclass(frozen=True, kw_only=True)
class Band:
    """Neighbouring filters with the only bins that they weigh: `weights (bins, filters)`."""

    bins: slice
    filters: slice
    weights: NDArray[np.float32]


def hann_window(samples: int) -> NDArray[np.float32]:
    """Return the periodic Hann window, `(1 - cos(2 pi n / samples)) / 2`."""
    return ((1 - np.cos(2 * np.pi * np.arange(samples) / samples)) / 2).astype(np.float32)


def povey_window(samples: int) -> NDArray[np.float32]:
    """Return Kaldi's default window, the symmetric Hann window to the power of 0.85.

    Its first value is 0, so what pre-emphasis makes of a frame's first sample never counts.
    """
    hann = (1 - np.cos(2 * np.pi * np.arange(samples) / (samples - 1))) / 2
    return np.power(hann, 0.85).astype(np.float32)


def htk_filters(sample_rate: int, fft_size: int, mels: int) -> NDArray[np.float32]:
    """Return HTK's mel filters from 0 Hz to half the rate, `(fft_size // 2 + 1, mels)`.

    The triangles have height 1 and straight sides over Hz; this is
    `torchaudio.functional.melscale_fbanks` with `norm=None` and `mel_scale="htk"`.
    """
    edges = np.array(mel_edges(0.0, sample_rate / 2, mels))
    hertz = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
    return triangles(hertz, edges)


def kaldi_filters(sample_rate: int, fft_size: int, mels: int) -> NDArray[np.float32]:
    """Return Kaldi's mel filters from 20 Hz to half the rate, `(fft_size // 2, mels)`.

    The triangles have height 1 and straight sides over mel; the bin at half the rate, of
    weight 0, is left out as in Kaldi.
    """
    edges = np.array(mel_edges(KALDI_LOWEST_HERTZ, sample_rate / 2, mels))
    hertz = np.arange(fft_size // 2) * sample_rate / fft_size
    return triangles(np.log1p(hertz / 700), np.log1p(edges / 700))


def triangles(positions: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weight of every position in every triangle over three successive edges."""
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (positions[:, None] - left) / (top - left)
    falling = (right - positions[:, None]) / (right - top)
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return weights.astype(np.float32)


def cosine_transform(mels: int, cepstra: int, lifter: float) -> NDArray[np.float32]:
    """Return Kaldi's liftered DCT-II, `(mels, cepstra)`.

    `sqrt(2 / mels) cos(pi k (m + 1/2) / mels)`, with `sqrt(1 / mels)` for `k = 0`, times
    `1 + lifter / 2 sin(pi k / lifter)` (no lifter: 0).
    """
    orders = np.arange(cepstra)
    angles = np.pi / mels * (np.arange(mels)[:, None] + 0.5) * orders
    transform: NDArray[np.float64] = np.sqrt(2 / mels) * np.cos(angles)
    transform[:, 0] = np.sqrt(1 / mels)
    if lifter:
        transform *= 1 + lifter / 2 * np.sin(np.pi * orders / lifter)
    return transform.astype(np.float32)


def cut_bands(filters: NDArray[np.float32], width: int, rows: int) -> tuple[Band, ...]:
    """Cut filters `(bins, filters)` into bands of up to `width` without their empty corners.

    Mel filters are 98 % zeros. Bands are narrower where `rows` times their weights would be
    a larger product than `LARGEST_PRODUCT`.
    """
    bands = []
    start, count = 0, filters.shape[1]
    while start < count:
        stop = min(start + width, count)
        while stop > start + 1 and rows * band(filters, start, stop).weights.size > LARGEST_PRODUCT:
            stop -= 1
        bands.append(band(filters, start, stop))
        start = stop
    return tuple(bands)


def band(filters: NDArray[np.float32], start: int, stop: int) -> Band:
    """Return the filters from `start` to `stop` with the bins that they weigh."""
    used = np.flatnonzero(filters[:, start:stop].any(axis=1))
    bins = slice(int(used[0]), int(used[-1]) + 1)
    return Band(
        bins=bins,
        filters=slice(start, stop),
        weights=np.ascontiguousarray(filters[bins, start:stop]),
    )
