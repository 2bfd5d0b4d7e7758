"""Mean and standard deviation of features over many utterances, from those of each utterance."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aalbert.shards.format.manifest import FeatureStatistics

# Rows pooled at a time: 10 MB of numbers with 80 dimensions, whatever the size of the dataset.
POOLED_ROWS = 2**14


def pool_statistics(
    statistics: pa.Table, feature: str, frames: NDArray[np.int64]
) -> FeatureStatistics:
    """Pool the means and standard deviations of utterances into those of all their frames.

    `frames` is the number of frames of each row; a row with 0 is left out. Pooling is over frames:
    `E[x^2] = sum n (std^2 + mean^2) / sum n`.
    """
    sums, squares = 0.0, 0.0
    start = 0
    columns = statistics.select([f"{feature}_mean", f"{feature}_std"])
    for batch in columns.to_batches(max_chunksize=POOLED_ROWS):
        weights = frames[start : start + batch.num_rows, None].astype(np.float64)
        start += batch.num_rows
        if weights.any():
            means, deviations = vectors(batch.column(0)), vectors(batch.column(1))
            sums += (weights * means).sum(axis=0)
            squares += (weights * (deviations**2 + means**2)).sum(axis=0)
    total = int(frames.sum())
    mean = np.divide(sums, total)
    std = np.sqrt(np.maximum(0, np.divide(squares, total) - mean**2))
    return FeatureStatistics(frames=total, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def combine_statistics(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    """Combine the statistics of several sets of frames into those of all frames."""
    frames = np.array([part.frames for part in parts], np.float64)[:, None]
    means = np.array([part.mean for part in parts])
    squares = np.array([part.std for part in parts]) ** 2 + means**2
    mean = (frames * means).sum(axis=0) / frames.sum()
    std = np.sqrt(np.maximum(0, (frames * squares).sum(axis=0) / frames.sum() - mean**2))
    total = sum(part.frames for part in parts)
    return FeatureStatistics(frames=total, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def vectors(values: pa.FixedSizeListArray) -> NDArray[np.float64]:
    """Return fixed-size lists as `(rows, dims)`."""
    numbers: NDArray[np.float64] = values.flatten().to_numpy().astype(np.float64)
    return numbers.reshape(len(values), -1)
