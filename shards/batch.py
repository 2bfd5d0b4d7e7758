"""A batch of features as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aalbert.shards.batch_shape import BatchShape
from aalbert.shards.ring import Lease


@dataclass(frozen=True)
class Batch:
    """Features of several utterances, padded or packed.

    `features` is float16 as stored: `(batch, frames, dims)`, zero past the end of each
    utterance, or, packed, `(frames, dims)` with the utterances one after another.
    `lengths (batch,)` counts the real frames, `rows (batch,)` the utterances' numbers in the
    datasets one after another; in batches of static shape, places without an utterance have
    length 0 and row -1. `real_frames` is the sum of the lengths, `squared_frames` that of their
    squares, which the work of attention grows with, `longest` the largest length.
    `targets` holds further features of the same frames, by name, each laid out as `features`.
    """

    features: Tensor
    lengths: Tensor
    rows: Tensor
    real_frames: int
    squared_frames: int
    longest: int
    targets: dict[str, Tensor] = field(default_factory=dict)
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
        features, lengths, rows, *targets = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.features, self.lengths, self.rows, *self.targets.values())
        )
        moved = replace(
            self,
            features=features,
            lengths=lengths,
            rows=rows,
            targets=dict(zip(self.targets, targets, strict=True)),
        )
        if device.type != "cuda":
            return moved
        if self.lease:
            # The slot must not be filled anew before the copies have been made.
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            self.lease.copies.append(copied)
        return replace(moved, lease=None)


def make_batch(
    buffer: Any,
    shape: BatchShape,
    targets: Sequence[str],
    lease: Lease | None = None,
) -> Batch:
    """Return the batch that lies in a buffer, without a copy; the tensors keep it alive."""
    arrays = shape.arrays(buffer)
    features, *others = map(torch.from_numpy, arrays.features)
    return Batch(
        features=features,
        lengths=torch.from_numpy(arrays.lengths),
        rows=torch.from_numpy(arrays.rows),
        real_frames=shape.size.real_frames,
        squared_frames=shape.size.squared_frames,
        longest=shape.size.longest,
        targets=dict(zip(targets, others, strict=True)),
        lease=lease,
    )
