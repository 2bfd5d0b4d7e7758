"""The frames of a batch on one axis, whether the batch is padded or packed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aalbert.models.layout import Packed


@dataclass(frozen=True)
class Frames:
    """Where every frame of a flattened batch belongs.

    `utterance` and `position` `(frames,)` say of which utterance it is and which of its frames;
    `first` and `lengths` `(batch,)` where each utterance begins on the axis and how many frames
    it has, of which none has more than `longest`. Frames past a length are padding.
    """

    utterance: Tensor
    position: Tensor
    first: Tensor
    lengths: Tensor
    longest: int

    @property
    def real(self) -> Tensor:
        """Which frames are not padding, `(frames,)`."""
        return self.position < self.lengths[self.utterance]

    def flatten(self, grid: Tensor) -> Tensor:
        """Take `(frames,)` values from `(batch, longest)` ones; padding may get any."""
        place = self.position.clamp(max=self.longest - 1)
        return grid.reshape(-1)[self.utterance * self.longest + place]


def frames_of(batch: Tensor, layout: Tensor | Packed) -> Frames:
    """Return the frames of a batch, padded `(batch, frames, dims)` or packed `(frames, dims)`.

    The first two axes of a padded batch become one. Frames of no utterance in a packed one count
    as padding of the last.
    """
    if isinstance(layout, Packed):
        count = len(batch)
        utterance = layout.utterances(count).clamp(max=len(layout.offsets) - 2)
        first = layout.offsets[:-1].long()
        time = torch.arange(count, device=first.device)
        return Frames(utterance, time - first[utterance], first, layout.lengths, layout.longest)
    size, longest = batch.shape[:2]
    time = torch.arange(size * longest, device=layout.device)
    first = torch.arange(size, device=layout.device) * longest
    return Frames(time // longest, time % longest, first, layout, longest)
