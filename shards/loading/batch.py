"""A batch of features as tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.shards.loading.batch_shape import BatchShape
from aalbert.shards.loading.shared_slots import Lease


@dataclass(frozen=True, repr=False)
class Batch:
    """Features of several utterances, padded or packed.

    `features` is float16 as stored: `(batch, frames, dims)`, zero past the end of each
    utterance, or, packed, `(frames, dims)` with the utterances one after another.
    `lengths (batch,)` are the numbers of real frames, `rows (batch,)` the utterances' rows,
    counted through all datasets; in batches of static shape, elements without an utterance have
    length 0 and row -1. `real_frames` is the sum of the lengths, `squared_frames` the sum of their
    squares, with which the work of attention grows, `longest` the largest length.
    `targets` holds further features of the same frames, by name, in the layout of `features`.
    """

    features: Tensor
    lengths: Tensor
    rows: Tensor
    real_frames: int
    squared_frames: int
    longest: int
    targets: dict[str, Tensor] = field(default_factory=dict)
    lease: Lease | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        targets = "".join(f", {name} {(*each.shape,)}" for name, each in self.targets.items())
        return (
            f"Batch({int((self.lengths > 0).sum())} utterances, {self.real_frames:,} frames, the "
            f"longest {self.longest:,}; features {(*self.features.shape,)}{targets})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can have: the tensors, without the lease of their slot."""
        return {**self.__dict__, "lease": None}

    @property
    def offsets(self) -> Tensor:
        """First frame of each utterance of a packed batch, and the end: `(batch + 1,)`, int32."""
        ends = self.lengths.cumsum(0, dtype=torch.int32)
        return torch.cat([ends.new_zeros(1), ends])

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device.

        Copies from pinned memory to a GPU are asynchronous.
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
            # The slot must not be filled again before the copies are complete.
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            self.lease.copies.append(copied)
        return replace(moved, lease=None)


def make_batch(
    buffer: NDArray[np.uint8],
    shape: BatchShape,
    targets: Sequence[str],
    lease: Lease | None = None,
) -> Batch:
    """Return the batch in a buffer, without a copy; the tensors keep the buffer alive.

    They are made from the buffer itself: a tensor made from a view of it would keep alive only the
    memory that both share.
    """
    size, (offsets, end) = shape.size, shape.feature_offsets()
    features, *others = [
        torch.frombuffer(buffer, dtype=torch.float16, count=math.prod(sizes), offset=start).view(
            sizes
        )
        for sizes, start in offsets
    ]
    lengths, rows = [
        torch.frombuffer(buffer, dtype=torch.int64, count=size.utterances, offset=start)
        for start in (end, end + 8 * size.utterances)
    ]
    return Batch(
        features=features,
        lengths=lengths,
        rows=rows,
        real_frames=size.real_frames,
        squared_frames=size.squared_frames,
        longest=size.longest,
        targets=dict(zip(targets, others, strict=True)),
        lease=lease,
    )
