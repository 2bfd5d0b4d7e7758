"""Which hidden state a head reads: one of them, their mean, or a mix that it learns."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aalbert.errors import require

# "last", "mean", "weighted", or the number of a state; 0 is the encoder's projected input.
LayerChoice = Literal["last", "mean", "weighted"] | int


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


def chosen_states(states: int, layers: LayerChoice) -> range:
    """Return the numbers of the hidden states that a choice reads.

    Raises `ConfigError` for the number of a state that the upstream does not have.
    """
    if layers in ("mean", "weighted"):
        return range(states)
    number = states - 1 if layers == "last" else int(layers)
    require(
        0 <= number < states,
        f"layers {layers}: the upstream has the states 0 to {states - 1} (0 is its input)",
    )
    return range(number, number + 1)
