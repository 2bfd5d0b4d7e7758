"""float32 to float16, exactly as IEEE 754 rounds, with the mean and deviation of what is stored.

NumPy converts one number at a time where it cannot use the processor's own instruction. Integer
operations on whole blocks do the same at about twice the speed, and leave the rounded values
in float32 for the sums, which would cost a second conversion.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_FRAMES = 256
# float32 has 13 more bits of mantissa than float16, and its exponent is biased by 112 more.
SPARE_BITS = 13
EXTRA_BIAS = 112 << 10
SMALLEST_NORMAL, LARGEST_FINITE = 0x0400, 0x7BFF
LARGEST_HALF = 65_504.0


@dataclass(frozen=True, kw_only=True)
class HalfArray:
    """Values `(frames, dims)` in float16, and their mean and deviation `(dims,)` over frames."""

    values: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def to_half(features: NDArray[np.float32]) -> HalfArray:
    """Round features `(frames, dims)` to float16, ties to even; `OverflowError` beyond 65504.

    `mean` and `std` (population deviation) are those of the rounded values, correct to about
    1e-6 of the deviation: float32 sums over blocks, around the first block's mean, are added
    up in float64.
    """
    frames, dims = features.shape
    halves = np.empty((frames, dims), "<f2")
    centre = features[:BLOCK_FRAMES].mean(axis=0) if frames else np.zeros(dims, np.float32)
    total, squares = np.zeros(dims), np.zeros(dims)
    for start in range(0, frames, BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        deviations = round_block(features[block], halves[block])
        deviations -= centre
        total += np.einsum("ij->j", deviations)
        squares += np.einsum("ij,ij->j", deviations, deviations)
    shift, square = total / max(1, frames), squares / max(1, frames)
    return HalfArray(
        values=halves,
        mean=(centre + shift).astype(np.float32),
        std=np.sqrt(np.maximum(0, square - shift**2)).astype(np.float32),
    )


def round_block(values: NDArray[np.float32], halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Write values to `halves` in float16 and return them as rounded, in float32."""
    bits = values.view(np.int32)
    rounded = bits >> SPARE_BITS
    rounded &= 1
    rounded += bits
    rounded += (1 << (SPARE_BITS - 1)) - 1
    rounded &= -1 << SPARE_BITS
    magnitude = rounded >> SPARE_BITS
    magnitude &= 0x3FFFF
    magnitude -= EXTRA_BIAS
    if magnitude.size and magnitude.max() > LARGEST_FINITE:
        raise OverflowError(f"float16 holds up to {LARGEST_HALF:.0f}, not {worst(values)}")
    if magnitude.size and magnitude.min() < SMALLEST_NORMAL:
        # Zeros and numbers below 2**-14 have another layout; in logarithms they are rare.
        halves[...] = values
        return halves.astype(np.float32)
    signs = bits >> 16
    signs &= 0x8000
    magnitude |= signs
    np.copyto(halves.view(np.uint16), magnitude, casting="unsafe")
    return rounded.view(np.float32)


def worst(values: NDArray[np.float32]) -> float:
    """Return a value that is not finite, or the one furthest from zero."""
    return float(values.flat[np.argmax(np.where(np.isfinite(values), np.abs(values), np.inf))])
