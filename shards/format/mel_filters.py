"""Where mel filters lie, and which of them are too narrow."""

import math


def mel_edges(lowest_hertz: float, highest_hertz: float, mels: int) -> list[float]:
    """Return the `mels + 2` edges of overlapping filters in Hz, equally spaced in mel.

    `mel = ln(1 + hertz / 700)` up to a factor (2595 / ln 10 for HTK, 1127 for Kaldi), which
    does not move the edges: filter `i` rises from edge `i` to `i + 1` and falls to `i + 2`.
    """
    lowest, highest = (math.log1p(hertz / 700) for hertz in (lowest_hertz, highest_hertz))
    step = (highest - lowest) / (mels + 1)
    return [700 * math.expm1(lowest + number * step) for number in range(mels + 2)]


def empty_filters(lowest_hertz: float, sample_rate: int, fft_size: int, mels: int) -> int:
    """Return how many filters lie between two bins of the FFT, and so are always empty."""
    bin_hertz = sample_rate / fft_size
    edges = mel_edges(lowest_hertz, sample_rate / 2, mels)
    return sum(
        (math.floor(left / bin_hertz) + 1) * bin_hertz >= right
        for left, right in zip(edges, edges[2:], strict=False)
    )
