# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""Features to the inputs of an encoder in PyTorch: the front end of a `config.json` of AALBERT.

Padding never changes an input.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STD_OFFSET = 1e-10
# What settings may be; a later version may know more.
CHOICES = {"normalisation": ("utterance", "global", "none")}


class FrontEnd(nn.Module):
    """Deltas, normalisation, context and stacking of features, in float32.

    `mean` and `std` `(feature_dims,)` are the statistics of global normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if missing := missing_inputs(config):
            raise ValueError(
                f"this model reads {missing}, which are not in this module: use aalbert"
            )
        require_known("front_end", config, CHOICES)
        self.config = config
        self.register_buffer("mean", torch.zeros(config["feature_dims"]))
        self.register_buffer("std", torch.ones(config["feature_dims"]))

    @property
    def input_dims(self) -> int:
        """Numbers per encoder frame."""
        config = self.config
        dims: int = config["feature_dims"] * (1 + config["deltas"])
        return dims * int(config["context"] * config["frames_stacked"])

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features `(batch, frames, feature_dims)` to encoder inputs and their lengths."""
        config = self.config
        time = torch.arange(features.shape[1], device=features.device)
        real = (time < lengths.unsqueeze(1)).unsqueeze(-1)
        frames = torch.where(real, features.float(), 0.0)
        if config["normalisation"] == "global":
            frames = (frames - self.mean) / (self.std + STD_OFFSET)
        parts = [frames]
        for _ in range(config["deltas"]):
            parts.append(deltas(parts[-1], lengths, config["delta_window"]))
        frames = torch.cat(parts, dim=-1)
        if config["normalisation"] == "utterance":
            frames = normalise(frames, lengths, real)
        reach = (config["context"] - 1) // 2
        frames = torch.cat(
            [shifted(frames, lengths, offset) for offset in range(-reach, reach + 1)], dim=-1
        )
        stacked = stack(torch.where(real, frames, 0.0), config["frames_stacked"])
        return stacked, stacked_lengths(lengths, config["frames_stacked"])


def missing_inputs(config: Mapping[str, Any]) -> str:
    """Return what of the settings of a front end is not in this module; empty if all is."""
    by_speaker = config["normalisation"] == "speaker"
    return "statistics of every speaker (front_end.normalisation)" if by_speaker else ""


def require_known(
    group: str, config: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise `ValueError` for a setting with a value that is not among its choices."""
    for name, known in choices.items():
        if config[name] not in known:
            raise ValueError(
                f"{group}.{name} is {config[name]!r}, this module knows {', '.join(known)}: use "
                "the modules of the version that saved the model"
            )


def normalise(frames: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    """Return frames of mean 0 and (unbiased) variance 1 over each utterance's real frames."""
    count = lengths.view(-1, 1, 1).float()
    mean = (frames * real).sum(dim=1, keepdim=True) / count
    deviations = (frames - mean) * real
    variance = deviations.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    # At 0 the root has no gradient; so little is nothing beside the offset.
    std = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()
    return deviations / (std + STD_OFFSET)


def deltas(features: Tensor, lengths: Tensor, window: int) -> Tensor:
    """Return regression deltas `sum_n n (x[t+n] - x[t-n]) / (2 sum_n n^2)` (HTK Book, 5.9)."""
    steps = range(1, (window - 1) // 2 + 1)
    total = torch.zeros_like(features)
    for n in steps:
        ahead, behind = (shifted(features, lengths, offset) for offset in (n, -n))
        total = total + n * (ahead - behind)
    return total / (2 * sum(n * n for n in steps))


def shifted(frames: Tensor, lengths: Tensor, offset: int) -> Tensor:
    """Return frame `t + offset` at every `t`; beyond the ends the first and last real frame."""
    if offset == 0:
        return frames
    time = torch.arange(frames.shape[1], device=frames.device)
    indexes = (time + offset).clamp(min=0).minimum((lengths - 1).unsqueeze(1))
    return taken(frames, indexes)


def stacked_lengths(lengths: Tensor, count: int) -> Tensor:
    """Return the encoder frames of utterances of these lengths, at least 1."""
    return (lengths // count).clamp(min=1)


def stack(frames: Tensor, count: int) -> Tensor:
    """Concatenate each `count` frames into one, and drop what remains at the end.

    A batch that is shorter than one stack is padded with zeros.
    """
    if frames.shape[1] < count:
        frames = F.pad(frames, (0, 0, 0, count - frames.shape[1]))
    stacks = frames.shape[1] // count
    return frames[:, : stacks * count].reshape(frames.shape[0], stacks, count * frames.shape[2])


def taken(frames: Tensor, indexes: Tensor) -> Tensor:
    """Return the frames `(batch, count, dims)` of these indexes `(batch, count)`."""
    return frames.gather(1, indexes.unsqueeze(-1).expand(-1, -1, frames.shape[-1]))
