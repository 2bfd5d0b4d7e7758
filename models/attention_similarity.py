"""How alike the layers of an encoder attend: Jensen-Shannon divergences of attention maps.

That layers of Mockingjay attend much alike is why Audio ALBERT shares them (Chi et al.
2021). The divergence of two distributions is `H((p + q) / 2) - (H(p) + H(q)) / 2`, with
entropies in bits: 0 where they are the same, 1 where they have nothing in common.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionSimilarity:
    """Divergences of every two layers `(layers, layers)`, in bits, means over the frames that ask.

    `averaged` compares the layers' maps averaged over heads; `closest` is that of the two
    heads, one of each layer, that are most alike.
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
    for one in range(layers):
        for other in range(one + 1, layers):
            averaged[one, other] = divergence(means[one], means[other]).mean()
            # One head of the first layer at a time: all pairs at once would be large.
            pairs = [divergence(head, maps[other]).mean(dim=-1).min() for head in maps[one]]
            closest[one, other] = torch.stack(pairs).min()
    return AttentionSimilarity(averaged + averaged.T, closest + closest.T)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in bits of distributions in the last dimension."""
    mixed = entropy((one + other) / 2)
    return (mixed - (entropy(one) + entropy(other)) / 2).clamp(min=0)


def entropy(distribution: Tensor) -> Tensor:
    """Return the entropy in bits of distributions in the last dimension."""
    nats: Tensor = -torch.special.xlogy(distribution, distribution).sum(dim=-1)
    return nats / math.log(2)
