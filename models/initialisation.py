"""The weights that a model begins with."""

from torch import nn

from aalbert.models.positions import LearnedPositions


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
