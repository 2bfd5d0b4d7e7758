"""The front end: stored features to encoder inputs, on the device, always in float32."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.errors import ConfigError
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.layout import Packed, frame_mask

# s3prl adds this to a standard deviation before dividing by it.
STD_OFFSET = 1e-10


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of stored features: `(dims,)`, or `(batch, dims)` of speakers."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class FrontEndOutput:
    """Encoder inputs, `(batch, frames, input_dims)` or packed `(frames, input_dims)`.

    `lengths` are lengths or a packed layout, as for the features. Other frames are zero.
    """

    inputs: Tensor
    lengths: Tensor | Packed


class FrontEnd(nn.Module):
    """Deltas, normalisation, context and stacking of stored features, always in float32.

    `mean` and `std` `(feature_dims,)` are the corpus's statistics; they are saved with
    the model and used with `global` normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: FrontEndConfig, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        dims = config.feature_dims
        self.register_buffer("mean", torch.zeros(dims) if mean is None else mean.float())
        self.register_buffer("std", torch.ones(dims) if std is None else std.float())

    def forward(
        self, features: Tensor, lengths: Tensor | Packed, speakers: Statistics | None = None
    ) -> FrontEndOutput:
        """Return the inputs of the encoder.

        `features` are `(batch, frames, feature_dims)` with `lengths (batch,)`, or packed
        `(frames, feature_dims)` with their layout. `speakers` `(batch, feature_dims)` are the
        statistics of each utterance's speaker. Raises `ConfigError` when the normalisation needs
        them and they are missing.
        """
        with torch.autocast(features.device.type, enabled=False):
            if isinstance(lengths, Packed):
                return self.prepare_packed(features.float(), lengths, speakers)
            inputs = self.prepare(features.float(), lengths, speakers)
            return FrontEndOutput(inputs, self.stacked_lengths(lengths))

    def prepare(self, features: Tensor, lengths: Tensor, speakers: Statistics | None) -> Tensor:
        """Return the encoder inputs of a padded batch."""
        real = frame_mask(lengths, features.shape[1]).unsqueeze(-1)
        # Replaced, not multiplied: padding may contain NaN.
        frames = self.normalise(torch.where(real, features, 0.0), lengths, real, speakers)
        frames = join_neighbours(frames, lengths, self.config.context)
        return stack_frames(torch.where(real, frames, 0.0), self.config.frames_stacked)

    def prepare_packed(
        self, features: Tensor, packed: Packed, speakers: Statistics | None
    ) -> FrontEndOutput:
        """Return the encoder inputs of a packed batch, computed from a padded one.

        The front end is a small part of the work, so one implementation serves both layouts. The
        number of stacked frames is known only on the device, so the result has room for the
        largest possible number: an additional one for each utterance shorter than a stack.
        """
        padded = self.prepare(packed.pad(features), packed.lengths, speakers)
        count, utterances = self.config.frames_stacked, len(packed.offsets) - 1
        room = 0 if count == 1 else utterances
        ends = self.stacked_lengths(packed.lengths).cumsum(0, dtype=packed.offsets.dtype)
        layout = Packed(
            torch.cat([ends.new_zeros(1), ends]),
            longest=padded.shape[1],
            spare=packed.spare // count + 2 * room,
        )
        return FrontEndOutput(layout.pack(padded, len(features) // count + room), layout)

    def stacked_lengths(self, lengths: Tensor) -> Tensor:
        """Return the encoder frames of utterances of these lengths: 0 for 0, else at least 1."""
        return (lengths // self.config.frames_stacked).clamp(min=1).minimum(lengths)

    def normalise(
        self, features: Tensor, lengths: Tensor, real: Tensor, speakers: Statistics | None
    ) -> Tensor:
        """Append deltas and normalise every dimension; the values in padding are undefined."""
        config = self.config
        if config.normalisation == "global":
            features = (features - self.mean) / (self.std + STD_OFFSET)
        if config.normalisation == "speaker":
            features = normalise_speakers(features, speakers)
        frames = append_deltas(features, lengths, config.deltas, config.delta_window)
        if config.normalisation == "utterance":
            frames = normalise_utterances(frames, lengths, real)
        return frames


def normalise_speakers(features: Tensor, speakers: Statistics | None) -> Tensor:
    """Normalise by each speaker's mean and deviation; raise `ConfigError` if they are missing."""
    if speakers is None:
        raise ConfigError(
            "front_end.normalisation speaker needs the statistics of each utterance's speaker, "
            "which were not given: choose utterance, global or none here"
        )
    return (features - speakers.mean.unsqueeze(1)) / (speakers.std.unsqueeze(1) + STD_OFFSET)


def normalise_utterances(frames: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    """Normalise every dimension to mean 0 and variance 1 over each utterance's real frames.

    The variance is the unbiased one, as in s3prl.
    """
    count = lengths.view(-1, 1, 1).clamp(min=1).float()
    mean = (frames * real).sum(dim=1, keepdim=True) / count
    deviations = (frames - mean) * real
    variance = deviations.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    return deviations / (variance.sqrt() + STD_OFFSET)


def append_deltas(features: Tensor, lengths: Tensor, order: int, window: int) -> Tensor:
    """Append `order` orders of deltas: `(batch, frames, dims * (1 + order))`."""
    parts = [features]
    for _ in range(order):
        parts.append(deltas(parts[-1], lengths, window))
    return torch.cat(parts, dim=-1)


def deltas(features: Tensor, lengths: Tensor, window: int) -> Tensor:
    """Return regression deltas `sum_n n (x[t+n] - x[t-n]) / (2 sum_n n^2)`.

    The first and last real frame are repeated beyond the ends (HTK Book, 5.9), so
    padding has no influence.
    """
    steps = range(1, (window - 1) // 2 + 1)
    total = torch.zeros_like(features)
    for n in steps:
        ahead, behind = (shift_frames(features, lengths, offset) for offset in (n, -n))
        total = total + n * (ahead - behind)
    return total / (2 * sum(n * n for n in steps))


def join_neighbours(frames: Tensor, lengths: Tensor, context: int) -> Tensor:
    """Concatenate the `context` frames around each frame: `(batch, frames, dims * context)`.

    The first and last real frame are repeated beyond the ends, so padding has no influence.
    """
    if context == 1:
        return frames
    reach = (context - 1) // 2
    offsets = range(-reach, reach + 1)
    return torch.cat([shift_frames(frames, lengths, offset) for offset in offsets], dim=-1)


def shift_frames(frames: Tensor, lengths: Tensor, offset: int) -> Tensor:
    """Return frame `t + offset` at every `t`; beyond the ends the first and last real frame."""
    time = torch.arange(frames.shape[1], device=frames.device)
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    indexes = (time + offset).clamp(min=0).expand(len(lengths), -1).minimum(last)
    return frames.gather(1, indexes.unsqueeze(-1).expand_as(frames))


def stack_frames(frames: Tensor, count: int) -> Tensor:
    """Concatenate each `count` frames into one: `(batch, frames // count, dims * count)`.

    Remaining frames at the end are dropped; an utterance shorter than one stack is padded with
    zeros.
    """
    if count == 1:
        return frames
    batch, length, dims = frames.shape
    if length < count:
        frames = F.pad(frames, (0, 0, 0, count - length))
    stacks = frames.shape[1] // count
    return frames[:, : stacks * count].reshape(batch, stacks, count * dims)
