"""float32 to float16, as IEEE 754 rounds, with the mean and deviation of what is stored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.kernel import native

LARGEST_HALF = 65_504.0


@dataclass(frozen=True, kw_only=True)
class HalfArray:
    """Values `(frames, dims)` in float16, and their mean and deviation `(dims,)` over frames."""

    values: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def to_half(features: NDArray[np.float32]) -> HalfArray:
    """Round features `(frames, dims)` to float16, ties to even; `OverflowError` beyond 65504.

    `mean` and `std` (population deviation) are those of the rounded values, summed in float64.
    """
    halves = np.empty(features.shape, "<f2")
    statistics = np.empty((2, features.shape[1]))
    if not native.round_to_half(features, halves, statistics):
        raise OverflowError(f"float16 holds up to {LARGEST_HALF:.0f}, not {worst(features)}")
    mean, std = statistics.astype(np.float32)
    return HalfArray(values=halves, mean=mean, std=std)


def worst(values: NDArray[np.float32]) -> float:
    """Return a value that is not finite, or the one furthest from zero."""
    return float(values.flat[np.argmax(np.where(np.isfinite(values), np.abs(values), np.inf))])
