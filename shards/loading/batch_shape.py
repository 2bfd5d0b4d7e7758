"""The sizes of a batch, and its arrays as views into one buffer."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.order import Rows, padded_lengths

ALIGNMENT = 64


class BatchArrays(NamedTuple):
    """The arrays of a batch: features (padded or packed), lengths and rows `(utterances,)`.

    `features` holds the input first, then each target.
    """

    features: tuple[NDArray[np.float16], ...]
    lengths: Rows
    rows: Rows


class BatchSize(NamedTuple):
    """The sizes that differ between batches.

    `frames` is the number of frames of each utterance with its padding, or, packed, of all
    utterances. `real_frames` is the sum of the lengths, `squared_frames` the sum of their squares,
    `longest` the largest.
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
        _, end = self.feature_offsets()
        return end + 2 * 8 * self.size.utterances

    def feature_offsets(self) -> tuple[list[tuple[tuple[int, ...], int]], int]:
        """Return shape and first byte of each array of features, and the first byte after them.

        The lengths begin there, and the rows follow.
        """
        utterances, frames = self.size.utterances, self.size.frames
        found: list[tuple[tuple[int, ...], int]] = []
        end = 0
        for dims in self.dims:
            shape = (frames, dims) if self.packed else (utterances, frames, dims)
            found.append((shape, end))
            end += -(-2 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
        return found, end

    def arrays(self, buffer: NDArray[np.uint8]) -> BatchArrays:
        """Return the arrays as views into a buffer."""
        offsets, end = self.feature_offsets()
        integers = np.ndarray((2, self.size.utterances), np.int64, buffer, end)
        return BatchArrays(
            tuple(np.ndarray(shape, np.float16, buffer, start) for shape, start in offsets),
            *integers,
        )


def largest_batch_bytes(lengths: Rows, dims: tuple[int, ...], order: OrderConfig) -> int:
    """Return an upper bound of the bytes of a batch of utterances of these lengths."""
    shortest, longest = padded_lengths(np.array([lengths.min(), lengths.max()]), order).tolist()
    frames = max(order.frames_per_batch, longest)
    most = BatchSize(frames // max(1, shortest), frames, frames, frames * longest, longest)
    return BatchShape(most, dims, packed=True).bytes
