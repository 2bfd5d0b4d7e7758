"""The visible frames of a masked batch, and the predictions of hidden ones that they give at once.

Visible frames are those that no mask has chosen: a chosen frame is hidden, whether it was zeroed,
replaced or kept. Encoder frames may be stacks of stored frames. The nearest visible frame of a
hidden stack is a stored one, the last of the stack before or the first of the one after, so all of
this is about stored frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aalbert.train.pretraining.masking import Frames, Mask


@dataclass(frozen=True)
class Nearest:
    """The nearest visible places at or `before` and at or `after` each place of an axis.

    With none on one side both are on the other, and with none at all `found` is False. `share` is
    the distance from `before`, as a part of that between both.
    """

    before: Tensor
    after: Tensor
    found: Tensor
    share: Tensor


def find_nearest(visible: Tensor, first: Tensor, last: Tensor) -> Nearest:
    """Find the nearest visible places `(places,)` that are not before `first` or after `last`."""
    place = torch.arange(len(visible), device=visible.device)
    before = place.where(visible, -1).cummax(dim=0).values
    after = place.where(visible, len(visible)).flip(0).cummin(dim=0).values.flip(0)
    has_before, has_after = before >= first, after <= last
    found = has_before | has_after
    before, after = (
        before.where(has_before, after).where(found, place),
        after.where(has_after, before).where(found, place),
    )
    return Nearest(before, after, found, (place - before) / (after - before).clamp(min=1))


@dataclass(frozen=True)
class VisibleFrames:
    """The visible ones among the stored frames of a batch, which lie at `(places,)` on one axis.

    `utterance` is the number of each frame's utterance in the batch of `utterances`, `first` and
    `last` are the places at which it begins and ends, and `nearest` are the visible frames in it.
    """

    utterance: Tensor
    utterances: int
    visible: Tensor
    first: Tensor
    last: Tensor
    nearest: Nearest


def find_visible(frames: Frames, mask: Mask, stacked: int) -> VisibleFrames:
    """Find the visible frames of a batch whose encoder frames are stacks of `stacked` frames."""
    visible = (frames.real & ~mask.frames).repeat_interleave(stacked)
    utterance = frames.utterance.repeat_interleave(stacked)
    first = (frames.first * stacked)[utterance]
    last = first + (frames.lengths * stacked)[utterance] - 1
    nearest = find_nearest(visible, first, last)
    return VisibleFrames(utterance, len(frames.lengths), visible, first, last, nearest)


def interpolate(values: Tensor, visible: VisibleFrames, default: Tensor) -> Tensor:
    """Return each frame `(places, dims)` from the nearest visible ones on both sides.

    It lies on the line between them; with none on one side it is the one on the other, and
    `default (dims,)` in an utterance without visible frames. A visible frame stays as it is.
    """
    near = visible.nearest
    line = torch.lerp(values[near.before], values[near.after], near.share.unsqueeze(1))
    return line.where(near.found.unsqueeze(1), default)


def take_nearest(values: Tensor, visible: VisibleFrames, default: Tensor) -> Tensor:
    """Return the nearest visible frame of each one, of two equally near ones the earlier."""
    near = visible.nearest
    return values[near.before.where(near.share <= 0.5, near.after)].where(
        near.found.unsqueeze(1), default
    )


def average(values: Tensor, visible: VisibleFrames, default: Tensor) -> Tensor:
    """Return for each frame the mean of all visible frames of its utterance."""
    kept = values.where(visible.visible.unsqueeze(1), 0.0)
    sums = kept.new_zeros(visible.utterances, values.shape[1])
    sums.index_add_(0, visible.utterance, kept)
    counts = sums.new_zeros(visible.utterances)
    counts.index_add_(0, visible.utterance, visible.visible.to(sums.dtype))
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return means[visible.utterance].where(visible.nearest.found.unsqueeze(1), default)


def interpolate_bands(values: Tensor, bands: Tensor, utterance: Tensor, default: Tensor) -> Tensor:
    """Return frames `(places, dims)` with their `bands (batch, dims)` interpolated over the dims.

    `utterance (places,)` is the one in the batch that a frame belongs to. Without any dimension
    outside of the band it is `default (dims,)`.
    """
    batch, dims = bands.shape
    first = (torch.arange(batch, device=bands.device) * dims).repeat_interleave(dims)
    near = find_nearest(~bands.flatten(), first, first + dims - 1)
    before, after = (
        values.gather(1, (place - first).view(batch, dims)[utterance])
        for place in (near.before, near.after)
    )
    line = torch.lerp(before, after, near.share.view(batch, dims)[utterance])
    return line.where(near.found.view(batch, dims)[utterance], default)
