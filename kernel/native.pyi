"""Arithmetic in C. A buffer of the wrong format, shape or layout raises `ValueError`.

All calls release the GIL and share no memory, so threads may make them at the same time.
"""

import numpy as np
from numpy.typing import NDArray

def spectra(
    *,
    wave: NDArray[np.float32],
    window: NDArray[np.float32],
    roots: NDArray[np.float32],
    mel_spans: NDArray[np.int32],
    mel_weights: NDArray[np.float32],
    cosine_spans: NDArray[np.int32],
    cosine_weights: NDArray[np.float32],
    out: NDArray[np.float32],
    first: int,
    shift: int,
    pre_emphasis: float,
    floor: float,
    offset: float,
) -> None:
    """Write the features of a wave `(samples,)` to `out`, `(frames, dims)`.

    Frame `i` begins at sample `first + i * shift`, with `first` at most 0; outside the wave,
    samples are reflected at its ends. With `pre_emphasis` above 0, the mean of each frame is
    taken away and then `pre_emphasis` times the sample before. The frame is multiplied with
    `window (length,)` and filled up with zeros to the size of the FFT, whose `roots
    (fft_size, 2)` are real and imaginary part of `exp(-2 pi i k / fft_size)`.

    The power spectrum `(fft_size // 2 + 1,)` goes through the filters of `mel_spans (mels, 2)`,
    first bin and number of bins of each, with all their weights in `mel_weights`; then
    `ln(max(x, floor) + offset)` is taken; then the filters of `cosine_spans` and
    `cosine_weights` follow. Without spans, numbers pass unfiltered.
    """

def round_to_half(
    values: NDArray[np.float32], halves: NDArray[np.float16], statistics: NDArray[np.float64]
) -> bool:
    """Write values `(frames, dims)` rounded to float16, ties to even, to `halves`.

    `statistics (2, dims)` become mean and population deviation of the rounded numbers, over
    frames. Returns False when a number is not finite or too large for float16; nothing that was
    written is meaningful then.
    """

def scale_samples(numbers: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    """Write 16-bit samples `(samples,)` divided by 32768."""

def keep_freed_memory() -> None:
    """Let this process use freed blocks of up to 32 MiB again, and keep up to 64 MiB of them.

    A recording takes several arrays of about a megabyte. glibc would get each from the system
    anew, which takes longer than to fill it.
    """

def variants() -> tuple[str, ...]:
    """Return the instruction sets that this processor can be used with, the fastest first."""

def select_variant(name: str) -> None:
    """Use another of `variants()` in this process; the numbers are the same bits in all."""
