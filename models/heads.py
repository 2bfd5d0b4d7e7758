"""What sits on an encoder: the reconstruction head, the layer mix, the speaker head."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aalbert.models.encoder import LAYER_NORM_EPSILON, EncoderConfig, initialise, make_activation
from aalbert.models.layout import frame_mask

LayerChoice = Literal["last", "weighted"]


class ReconstructionHead(nn.Module):
    """Predicts frames from the last hidden state: dense, activation, layer norm, linear."""

    def __init__(self, config: EncoderConfig, target_dims: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = make_activation(config)
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.output = nn.Linear(config.width, target_dims)
        initialise(self, config.initial_std)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `(..., frames, width)` to `(..., frames, target_dims)`."""
        predicted: Tensor = self.output(self.norm(self.activation(self.dense(hidden))))
        return predicted


class LayerMix(nn.Module):
    """A softmax-weighted sum of all hidden states, as SUPERB mixes them (Yang et al. 2021)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Mix states of one shape into one."""
        return torch.einsum("s,s...->...", self.weights(), torch.stack(list(states)))

    def weights(self) -> Tensor:
        """Return the weight of every state; they sum to one."""
        return self.logits.softmax(dim=0)


class SpeakerHead(nn.Module):
    """Chooses a layer or mixes all, averages over real frames, and classifies linearly."""

    def __init__(self, states: int, width: int, speakers: int, layers: LayerChoice) -> None:
        super().__init__()
        self.mix = LayerMix(states) if layers == "weighted" else None
        self.classify = nn.Linear(width, speakers)

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the score of every speaker, `(batch, speakers)`."""
        # Averages first: the mix is linear, and pooled states are small.
        pooled = [mean_pool(state, lengths) for state in (states if self.mix else states[-1:])]
        scores: Tensor = self.classify(self.mix(pooled) if self.mix else pooled[0])
        return scores


def mean_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Average `(batch, frames, width)` over each utterance's real frames: `(batch, width)`."""
    real = frame_mask(lengths, hidden.shape[1]).unsqueeze(-1)
    total = (hidden.float() * real).sum(dim=1)
    return total / lengths.unsqueeze(1)
