"""Label frames as the common grid of runs whose own frames have different lengths.

A decision about a frame holds for the stretch of time around its centre. So every label frame has
the prediction of the frame whose centre is nearest to its own, and all runs on the same labels are
measured on the same items.
"""

from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.models.frame_times import FrameTimes
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.labels import NO_CLASS, ColumnLabels
from aalbert.train.downstream.phones import FrameLabels


class LabelGrid(nn.Module):
    """The label frames of every utterance, and the frame of an upstream that is nearest to each.

    `labels` are those of the label frames, `counts` their number in every row of the dataset;
    `nearest` has the frame of each, see `nearest_frames`.
    """

    counts: Tensor
    nearest: Tensor

    def __init__(self, labels: ColumnLabels | FrameLabels, counts: Tensor, nearest: Tensor) -> None:
        super().__init__()
        self.labels = labels
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("nearest", nearest, persistent=False)

    def count_correct(
        self, rows: Tensor, lengths: Tensor, predicted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the label frames of every utterance `(batch,)`, and the correct ones of them.

        `predicted (batch, frames)` are the classes of the upstream's frames; the last of
        `lengths (batch,)` frames goes on for label frames past its end.
        """
        counts = self.counts[rows]
        frames = self.nearest[: int(counts.max())].minimum(lengths.unsqueeze(1) - 1)
        held = predicted.gather(1, frames)
        classes = self.labels.targets(rows, counts, held.unsqueeze(-1))
        return (classes != NO_CLASS).sum(dim=1), (held == classes).sum(dim=1)

    def checksums(self, rows: Tensor) -> Tensor:
        """Return a checksum of the labels of every utterance `(batch,)`, whatever the upstream."""
        counts = self.counts[rows]
        shape = counts.new_empty(len(rows), int(counts.max()), 1)
        classes = self.labels.targets(rows, counts, shape).cpu().numpy()
        return torch.tensor(
            [
                crc32(own[:count].tobytes())
                for own, count in zip(classes, counts.tolist(), strict=True)
            ]
        )


def make_label_grid(
    labels: ColumnLabels | FrameLabels, inputs: Inputs, label_shift_ms: float
) -> LabelGrid:
    """Return the label frames of a dataset for the frames of an upstream.

    Labels of whole utterances last for as many label frames as their audio holds.
    """
    if isinstance(labels, FrameLabels):
        counts = labels.count
        each = torch.arange(int(counts.max()), device=counts.device)
        labels = FrameLabels(labels.names, labels.classes, labels.begin, counts, each)
    else:
        samples = torch.from_numpy(inputs.samples())
        shift = inputs.stored.sample_rate * label_shift_ms / 1000
        counts = (samples / shift).long().clamp(min=1)
    nearest = nearest_frames(int(counts.max()), inputs.frame_times(), label_shift_ms=label_shift_ms)
    return LabelGrid(labels, counts, torch.from_numpy(nearest))


def nearest_frames(
    label_frames: int, times: FrameTimes, *, label_shift_ms: float
) -> NDArray[np.int64]:
    """Return for each label frame the frame whose centre is nearest to its own.

    Label frame `i` lasts from `i` to `i + 1` label shifts. Where two frames are equally near it is
    the earlier one, so that frames as long as labels are in turn nearest to the label that they
    take (`phones.label_places`).
    """
    centres_ms = (np.arange(label_frames) + 0.5) * label_shift_ms
    places = np.ceil((centres_ms - times.first_ms) / times.shift_ms - 0.5 - 1e-6)
    frames: NDArray[np.int64] = places.clip(min=0).astype(np.int64)
    return frames
