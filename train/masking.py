"""Masks for reconstruction: which frames are hidden, and what stands in their place."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aalbert.errors import require


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Masking as s3prl does it for Mockingjay and Audio ALBERT.

    Of each utterance's encoder frames, `proportion` are chosen in spans of
    `consecutive` frames (spans may overlap, so a little less is hidden). One draw per
    utterance decides what replaces all of them: zeros, or, with `random_share`, other
    frames of the utterance, or, with `keep_share`, nothing.
    """

    proportion: float = 0.15
    consecutive: int = 7
    random_share: float = 0.1
    keep_share: float = 0.1

    def __post_init__(self) -> None:
        require(
            0 < self.proportion < 1,
            f"masking.proportion {self.proportion} must be between 0 and 1",
        )
        require(self.consecutive >= 1, f"masking.consecutive {self.consecutive} must be at least 1")
        require(
            min(self.random_share, self.keep_share) >= 0
            and self.random_share + self.keep_share <= 1,
            f"masking.random_share {self.random_share} and masking.keep_share "
            f"{self.keep_share} must not be negative and together at most 1",
        )


def draw_mask(
    lengths: Tensor, frames: int, config: MaskingConfig, generator: torch.Generator
) -> Tensor:
    """Choose the frames to predict: `(batch, frames)` of bool, on the CPU.

    Every utterance gets at least one span, and no mask touches padding. Spans start
    at distinct frames, and inside the utterance where it is long enough to hold one.
    """
    lengths = lengths.cpu()
    spans = (lengths * config.proportion / config.consecutive).round().clamp(min=1)
    last_start = (lengths - config.consecutive).clamp(min=0)
    time = torch.arange(frames)
    scores = torch.rand(len(lengths), frames, generator=generator)
    scores = scores.masked_fill(time > last_start.unsqueeze(1), -1.0)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    starts = (rank < spans.unsqueeze(1)) & (scores >= 0)
    begun = torch.nn.functional.pad(starts.long().cumsum(dim=1), (config.consecutive, 0))
    inside_span = begun[:, config.consecutive :] > begun[:, : -config.consecutive]
    return inside_span & (time < lengths.unsqueeze(1))


def corrupt(
    inputs: Tensor,
    mask: Tensor,
    lengths: Tensor,
    config: MaskingConfig,
    generator: torch.Generator,
) -> Tensor:
    """Replace the masked frames of `inputs (batch, frames, dims)`, one policy per utterance."""
    batch, frames, _ = inputs.shape
    dice = torch.rand(batch, generator=generator)
    places = (torch.rand(batch, frames, generator=generator) * lengths.cpu().unsqueeze(1)).long()
    kept = dice >= 1 - config.keep_share
    replaced = ~kept & (dice >= 1 - config.keep_share - config.random_share)
    zeroed = ~kept & ~replaced
    device = inputs.device
    others = inputs.gather(1, places.to(device).unsqueeze(-1).expand_as(inputs))
    inputs = inputs.masked_fill((mask & zeroed.unsqueeze(1)).to(device).unsqueeze(-1), 0.0)
    take_others = (mask & replaced.unsqueeze(1)).to(device).unsqueeze(-1)
    return torch.where(take_others, others, inputs)


def masked_l1(predicted: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error over the masked frames' elements, in float32."""
    error = (predicted.float() - targets.float()).abs().mean(dim=-1)
    return (error * mask).sum() / mask.sum()
