"""What features multiply with: windows, mel filters, the cosine transform. Constants of settings.

All are computed in float64 and handed out in float32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.settings import KALDI_LOWEST_HERTZ, mel_edges


@dataclass(frozen=True, kw_only=True)
class SparseFilters:
    """Filters by the only bins that they weigh; mel filters are 98 % zeros.

    `spans (filters, 2)` say the first bin of each and how many follow on it, `weights` are
    those of all filters one after another.
    """

    spans: NDArray[np.int32]
    weights: NDArray[np.float32]


NO_FILTERS = SparseFilters(spans=np.empty((0, 2), np.int32), weights=np.empty(0, np.float32))


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


def roots_of_unity(size: int) -> NDArray[np.float32]:
    """Return real and imaginary part of `exp(-2 pi i k / size)`, `(size, 2)`."""
    angles = -2 * np.pi * np.arange(size) / size
    return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)


def sparse(filters: NDArray[np.float32]) -> SparseFilters:
    """Return filters `(bins, filters)` without the zeros before and after each."""
    used = [np.flatnonzero(each) for each in filters.T]
    first_and_last = [(int(bins[0]), int(bins[-1])) for bins in used]
    return SparseFilters(
        spans=np.array([(low, high + 1 - low) for low, high in first_and_last], np.int32),
        weights=np.concatenate(
            [filters[low : high + 1, each] for each, (low, high) in enumerate(first_and_last)]
        ),
    )
