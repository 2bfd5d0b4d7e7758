"""Mean and deviation of features over many utterances, from what the index says of each."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aalbert.shards.manifest import FeatureStatistics


def pool_statistics(table: pa.Table, feature: str) -> FeatureStatistics:
    """Pool the utterances' means and deviations into those of all their frames together.

    Pooling is over frames: `E[x^2] = sum n (std^2 + mean^2) / sum n`.
    """
    frames = table.column(f"{feature}_frames").to_numpy().astype(np.float64)[:, None]
    means = vectors(table, f"{feature}_mean")
    deviations = vectors(table, f"{feature}_std")
    mean = (frames * means).sum(axis=0) / frames.sum()
    square = (frames * (deviations**2 + means**2)).sum(axis=0) / frames.sum()
    std = np.sqrt(np.maximum(0, square - mean**2))
    return FeatureStatistics(
        frames=int(frames.sum()), mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def vectors(table: pa.Table, column: str) -> NDArray[np.float64]:
    """Return a column of fixed-size lists as `(rows, dims)`."""
    values = table.column(column).combine_chunks()
    numbers: NDArray[np.float64] = values.flatten().to_numpy().astype(np.float64)
    return numbers.reshape(len(values), -1)
