"""A batch of features as tensors."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.shards.assembly import BatchShape
from aalbert.shards.ring import Lease


@dataclass(frozen=True)
class Batch:
    """Features of several utterances, padded or packed.

    `features` is float16 as stored: `(batch, frames, dims)`, zero past the end of each
    utterance, or, packed, `(frames, dims)` with the utterances one after another.
    `lengths (batch,)` counts the real frames, `rows (batch,)` the utterances' numbers in the
    datasets one after another; in batches of static shape, places without an utterance have
    length 0 and row -1. `real_frames` is the sum of the lengths.
    """

    features: Tensor
    lengths: Tensor
    rows: Tensor
    real_frames: int
    lease: Lease | None = field(default=None, repr=False, compare=False)

    @property
    def offsets(self) -> Tensor:
        """Where each utterance of a packed batch begins, and the end: `(batch + 1,)`, int32."""
        ends = self.lengths.cumsum(0, dtype=torch.int32)
        return torch.cat([ends.new_zeros(1), ends])

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device.

        Copies from pinned memory to a GPU go on while this returns.
        """
        features, lengths, rows = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.features, self.lengths, self.rows)
        )
        if device.type != "cuda":
            return Batch(features, lengths, rows, self.real_frames, self.lease)
        if self.lease:
            # The slot must not be filled anew before the copies have been made.
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            self.lease.copies.append(copied)
        return Batch(features, lengths, rows, self.real_frames)


def make_batch(buffer: NDArray[np.uint8], shape: BatchShape, lease: Lease | None = None) -> Batch:
    """Return the batch that lies in a buffer, without a copy."""
    arrays = shape.arrays(buffer)
    return Batch(
        features=torch.from_numpy(arrays.features),
        lengths=torch.from_numpy(arrays.lengths),
        rows=torch.from_numpy(arrays.rows),
        real_frames=int(arrays.lengths.sum()),
        lease=lease,
    )
