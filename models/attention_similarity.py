"""The similarity of attention between heads and layers: Jensen-Shannon divergences of their maps.

Layers of Mockingjay have similar attention, which is why Audio ALBERT shares them (Chi et al.
2021). The divergence of two distributions is `H((p + q) / 2) - (H(p) + H(q)) / 2`, with
entropies in bits: 0 if they are equal, 1 if they do not overlap (Lin 1991, "Divergence measures
based on the Shannon entropy", equation 4.1 with equal weights).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# All pairs at once would need much memory.
PAIRS_AT_ONCE = 12


@dataclass(frozen=True)
class AttentionSimilarity:
    """Divergences of attention in bits, means over query frames.

    `averaged (layers, layers)` compares the layers' maps averaged over heads; `heads (layers,
    heads, layers, heads)` every head with every other.
    """

    averaged: Tensor
    heads: Tensor

    @property
    def closest(self) -> Tensor:
        """Those of the two most similar heads, one of each layer, `(layers, layers)`."""
        return self.heads.amin(dim=(1, 3))


def compare_attention(maps: Tensor) -> AttentionSimilarity:
    """Compare the attention maps `(layers, heads, frames, frames)` of one utterance.

    Every row of a map is a distribution over the frames attended to.
    """
    layers, heads, _, _ = maps.shape
    each = all_pairs(maps.flatten(0, 1)).reshape(layers, heads, layers, heads)
    return AttentionSimilarity(all_pairs(maps.mean(dim=1)), each)


def all_pairs(maps: Tensor) -> Tensor:
    """Return the divergences `(maps, maps)` of all pairs of maps `(maps, frames, frames)`."""
    found = torch.zeros(len(maps), len(maps))
    own = entropy(maps)
    for first in range(len(maps)):
        later = torch.arange(first + 1, len(maps))
        for second in torch.split(later, PAIRS_AT_ONCE):
            mixed = entropy((maps[first] + maps[second]) / 2)
            found[first, second] = (mixed - (own[first] + own[second]) / 2).clamp(min=0)
    return found + found.T


def entropy(maps: Tensor) -> Tensor:
    """Return the mean entropy in bits of the rows of maps, `(maps,)`."""
    # Zero times the logarithm of the smallest number is zero, as it is in the limit.
    nats: Tensor = -(maps * maps.clamp(min=torch.finfo(maps.dtype).tiny).log()).sum(dim=-1)
    return nats.mean(dim=-1) / math.log(2)
