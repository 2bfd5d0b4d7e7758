"""The sizes of a batch, and its arrays as views into one stretch of memory."""

import math
from typing import NamedTuple

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


class BatchShape(NamedTuple):
    """The sizes of a batch: `frames` counts those of each utterance, or, packed, of all.

    `dims` has a number for the input and for each target.
    """

    utterances: int
    frames: int
    dims: tuple[int, ...]
    packed: bool

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(map(self._feature_bytes, self.dims)) + 2 * 8 * self.utterances

    def arrays(self, buffer: NDArray[np.uint8]) -> BatchArrays:
        """Return the arrays as views into a buffer."""
        features: list[NDArray[np.float16]] = []
        start = 0
        for dims in self.dims:
            shape = self._feature_shape(dims)
            numbers = buffer[start : start + 2 * math.prod(shape)]
            features.append(numbers.view(np.float16).reshape(shape))
            start += self._feature_bytes(dims)
        integers = buffer[start : self.bytes].view(np.int64)
        lengths, rows = integers[: self.utterances], integers[self.utterances :]
        return BatchArrays(tuple(features), lengths, rows)

    def _feature_shape(self, dims: int) -> tuple[int, ...]:
        return (self.frames, dims) if self.packed else (self.utterances, self.frames, dims)

    def _feature_bytes(self, dims: int) -> int:
        """Bytes of one array of features, up to the next array."""
        return math.ceil(2 * math.prod(self._feature_shape(dims)) / ALIGNMENT) * ALIGNMENT
