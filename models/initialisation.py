"""The weights that a model begins with."""

import math

from torch import nn

from aalbert.models.positions import LearnedPositions


def default_std(width: int) -> float:
    """Return BERT's 0.02 at its width of 768, and `0.02 sqrt(768 / width)` at another.

    The sums over `width` products then have the same size at every width, and with them what a
    layer adds to its input; a narrow encoder with 0.02 stays long on its initial plateau.
    """
    return 0.02 * math.sqrt(768 / width)


def initialise(module: nn.Module, std: float) -> None:
    """Initialise as in BERT: normal weights and positions with this deviation, zero biases.

    A module without memory, on the device `meta`, has nothing to initialise.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        if isinstance(part, LearnedPositions):
            nn.init.normal_(part.weight, std=std)
