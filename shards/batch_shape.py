"""The sizes of a batch, and its arrays as views into one stretch of memory."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.order import Rows

ALIGNMENT = 64


class BatchArrays(NamedTuple):
    """The arrays of a batch: features (padded or packed), lengths and rows `(utterances,)`.

    `features` holds those of the input first, then those of each target.
    """

    features: tuple[NDArray[np.float16], ...]
    lengths: Rows
    rows: Rows


class BatchSize(NamedTuple):
    """What is another number in every batch.

    `frames` counts those of each utterance with its padding, or, packed, of all. `real_frames`
    is the sum of the lengths, `squared_frames` that of their squares, `longest` the largest.
    """

    utterances: int
    frames: int
    real_frames: int
    squared_frames: int
    longest: int


class BatchShape(NamedTuple):
    """The sizes of a batch; `dims` has a number for the input and for each target."""

    size: BatchSize
    dims: tuple[int, ...]
    packed: bool

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(map(self._feature_bytes, self.dims)) + 2 * 8 * self.size.utterances

    def arrays(self, buffer: Any) -> BatchArrays:
        """Return the arrays as views into a buffer."""
        features: list[NDArray[np.float16]] = []
        start = 0
        for dims in self.dims:
            shape = self._feature_shape(dims)
            numbers = np.frombuffer(buffer, np.float16, math.prod(shape), start)
            features.append(numbers.reshape(shape))
            start += self._feature_bytes(dims)
        integers = np.frombuffer(buffer, np.int64, 2 * self.size.utterances, start)
        lengths, rows = integers.reshape(2, -1)
        return BatchArrays(tuple(features), lengths, rows)

    def _feature_shape(self, dims: int) -> tuple[int, ...]:
        frames = self.size.frames
        return (frames, dims) if self.packed else (self.size.utterances, frames, dims)

    def _feature_bytes(self, dims: int) -> int:
        """Bytes of one array of features, up to the next array."""
        return math.ceil(2 * math.prod(self._feature_shape(dims)) / ALIGNMENT) * ALIGNMENT
