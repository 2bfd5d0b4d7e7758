"""The pooling of frames into one vector per utterance; padding never has an influence."""

import torch
from torch import Tensor, nn

from aalbert.models.layout import frame_mask

# Keeps the gradient of a standard deviation finite where all frames are equal.
VARIANCE_FLOOR = 1e-6


def mean_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Average `(batch, frames, width)` over each utterance's real frames: `(batch, width)`."""
    return weighted_mean(hidden, uniform_weights(lengths, hidden.shape[1]))


def statistics_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return mean and standard deviation over real frames: `(batch, 2 width)`.

    The statistics pooling of x-vectors (Snyder et al. 2018).
    """
    return weighted_statistics(hidden, uniform_weights(lengths, hidden.shape[1]))


class AttentivePooling(nn.Module):
    """Mean and standard deviation weighted by learned attention: `(batch, 2 width)`.

    A frame's weight is the softmax over time of `v tanh(W h + b)` (Okabe et al. 2018).
    """

    def __init__(self, width: int, attention_width: int = 128) -> None:
        super().__init__()
        self.project = nn.Linear(width, attention_width)
        self.attend = nn.Linear(attention_width, 1, bias=False)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Pool `(batch, frames, width)`."""
        logits = self.attend(self.project(hidden).tanh()).float()
        real = frame_mask(lengths.clamp(min=1), hidden.shape[1]).unsqueeze(-1)
        weights = logits.masked_fill(~real, -torch.inf).softmax(dim=1)
        return weighted_statistics(hidden, weights)


def uniform_weights(lengths: Tensor, frames: int) -> Tensor:
    """Return weights `(batch, frames, 1)`: equal for all real frames, zero for padding."""
    real = frame_mask(lengths, frames).unsqueeze(-1).float()
    return real / lengths.clamp(min=1).view(-1, 1, 1)


def weighted_mean(hidden: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of frames `(batch, width)`; the weights sum to one."""
    return (hidden.float() * weights).sum(dim=1)


def weighted_statistics(hidden: Tensor, weights: Tensor) -> Tensor:
    """Return weighted mean and standard deviation, concatenated: `(batch, 2 width)`."""
    mean = weighted_mean(hidden, weights)
    variance = weighted_mean((hidden.float() - mean.unsqueeze(1)).square(), weights)
    return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=-1)
