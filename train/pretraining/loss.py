"""The objective: the error of reconstructed frames compared with their targets."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aalbert.train.pretraining.config import ObjectiveConfig
from aalbert.train.pretraining.masking import Frames, Mask


@dataclass(frozen=True)
class ErrorSums:
    """The summed error and the number of summed elements of every target, `(targets,)` each.

    The sums of several batches can be added.
    """

    sums: Tensor
    counts: Tensor

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return ErrorSums(self.sums + other.sums, self.counts + other.counts)

    def loss(self, config: ObjectiveConfig) -> Tensor:
        """Return the weighted sum of the targets' mean errors."""
        means = self.sums / self.counts
        weights = list(config.targets.values()) or [1.0]
        total: Tensor = sum(
            (weight * mean for weight, mean in zip(weights, means, strict=True)),
            means.new_zeros(()),
        )
        return total


def measure_target(
    predicted: Tensor, target: Tensor, chosen: Tensor, loss: str
) -> tuple[Tensor, Tensor]:
    """Return the summed error in float32 and the number of the chosen elements.

    `predicted` and `target` are `(frames, dims)`; `chosen` holds whole frames `(frames, 1)` or
    elements `(frames, dims)`.
    """
    errors = element_errors(predicted.float(), target.float(), loss)
    count = chosen.sum(dtype=torch.float32) * (errors.shape[1] // chosen.shape[1])
    # Not a product with `chosen`: padding may hold NaN.
    return errors.where(chosen, 0.0).sum(), count


def element_errors(predicted: Tensor, target: Tensor, loss: str) -> Tensor:
    """Return the error of every element."""
    if loss == "l2":
        return F.mse_loss(predicted, target, reduction="none")
    if loss == "huber":
        return F.huber_loss(predicted, target, reduction="none")
    return F.l1_loss(predicted, target, reduction="none")


def chosen_elements(
    mask: Mask, frames: Frames, dims: int, config: ObjectiveConfig, *, has_bands: bool
) -> Tensor:
    """Return what the loss is taken over: frames `(frames, 1)`, or elements `(frames, dims)`.

    Bands are hidden only in the feature that the encoder reads (`has_bands`), not in other targets.
    """
    if config.over == "all":
        return frames.real.unsqueeze(1)
    chosen = mask.frames.unsqueeze(1)
    bands = mask.band_elements(frames, dims) if has_bands else None
    if bands is None:
        return chosen
    return chosen | (bands & frames.real.unsqueeze(1))
