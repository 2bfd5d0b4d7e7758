"""The similarity of attention between layers: Jensen-Shannon divergences of attention maps.

Layers of Mockingjay have similar attention, which is why Audio ALBERT shares them (Chi et al.
2021). The divergence of two distributions is `H((p + q) / 2) - (H(p) + H(q)) / 2`, with
entropies in bits: 0 if they are equal, 1 if they do not overlap.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionSimilarity:
    """Divergences of all pairs of layers `(layers, layers)`, in bits, means over query frames.

    `averaged` compares the layers' maps averaged over heads; `closest` is that of the two most
    similar heads, one of each layer.
    """

    averaged: Tensor
    closest: Tensor


def compare_layers(maps: Tensor) -> AttentionSimilarity:
    """Compare the layers of attention maps `(layers, heads, frames, frames)` of one utterance.

    Every row of a map is a distribution over the frames attended to.
    """
    layers = len(maps)
    averaged, closest = torch.zeros(layers, layers), torch.zeros(layers, layers)
    means = maps.mean(dim=1)
    for first in range(layers):
        for second in range(first + 1, layers):
            averaged[first, second] = divergence(means[first], means[second]).mean()
            # One head of the first layer at a time: all pairs at once would need much memory.
            pairs = [divergence(head, maps[second]).mean(dim=-1).min() for head in maps[first]]
            closest[first, second] = torch.stack(pairs).min()
    return AttentionSimilarity(averaged + averaged.T, closest + closest.T)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in bits of distributions in the last dimension."""
    mixed = entropy((first + second) / 2)
    return (mixed - (entropy(first) + entropy(second)) / 2).clamp(min=0)


def entropy(distribution: Tensor) -> Tensor:
    """Return the entropy in bits of distributions in the last dimension."""
    nats: Tensor = -torch.special.xlogy(distribution, distribution).sum(dim=-1)
    return nats / math.log(2)
