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
    subtracted and then `pre_emphasis` times the previous sample. The frame is multiplied with
    `window (length,)` and padded with zeros to the size of the FFT, whose `roots
    (fft_size, 2)` are real and imaginary part of `exp(-2 pi i k / fft_size)`.

    The power spectrum `(fft_size // 2 + 1,)` goes through the filters of `mel_spans (mels, 2)`,
    first bin and number of bins of each, with all their weights in `mel_weights`; then
    `ln(max(x, floor) + offset)` is taken; then the filters of `cosine_spans` and
    `cosine_weights` follow. Without spans, that filter is left out.
    """

def round_to_half(
    values: NDArray[np.float32], halves: NDArray[np.float16], statistics: NDArray[np.float64]
) -> bool:
    """Write values `(frames, dims)` rounded to float16, ties to even, to `halves`.

    `statistics (2, dims)` become mean and population deviation of the rounded numbers, over
    frames. Returns False when a number is not finite or too large for float16; the output is then
    not valid.
    """

def scale_samples(numbers: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    """Write 16-bit samples `(samples,)` divided by 32768."""

def keep_freed_memory() -> None:
    """Make this process reuse freed blocks of up to 32 MiB, and keep up to 64 MiB of them.

    A recording needs several arrays of about a megabyte. glibc would request each from the
    system again, which takes longer than filling it.
    """

def variants() -> tuple[str, ...]:
    """Return the instruction sets that this processor supports, the fastest first."""

def select_variant(name: str) -> None:
    """Use another of `variants()` in this process; all give bit-identical numbers."""
