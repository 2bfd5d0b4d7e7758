"""How an encoder is trained along with a head: which parts, from when, how fast."""

import sys

from torch import nn

from aalbert.models.upstream import Upstream
from aalbert.train.downstream.config import FineTuningConfig

# Fine-tuned at 0.1, s3prl's HuBERT fell to 0.25 % and 0.07 % on VoxCeleb1 (its issue 583);
# the highest published rate that was of use is Mockingjay's 4e-3 (Liu et al. 2020).
COLLAPSE_LEARNING_RATE = 1e-2


def warn_of_collapse(config: FineTuningConfig) -> None:
    """Say on stderr when the encoder's learning rate is one that is known to ruin it."""
    rate = config.encoder_learning_rate
    if rate >= COLLAPSE_LEARNING_RATE:
        print(
            f"warning: fine_tuning.encoder_learning_rate is {rate:g}: an encoder trained at 0.1 is "
            "known to forget all it knew and to end at chance; 1e-5 to 1e-3 is usual",
            file=sys.stderr,
        )


def parts_from_the_top(upstream: Upstream) -> list[list[nn.Parameter]]:
    """Return the parameters of an encoder, its last layer first, what comes before layers last.

    A layer that is shared is one part.
    """
    assert upstream.encoder is not None, "plain features have nothing to train"
    layers = [list(layer.parameters()) for layer in reversed(list(upstream.encoder.layers))]
    of_layers = {id(parameter) for layer in layers for parameter in layer}
    rest = [one for one in upstream.parameters() if id(one) not in of_layers]
    return [*layers, rest]


def trained_parts(epoch: int, parts: int, config: FineTuningConfig) -> int:
    """Return how many parts, from the top, are trained in an epoch, counted from 0."""
    since = epoch - config.frozen_epochs
    if since < 0:
        return 0
    if config.epochs_per_layer == 0:
        return parts
    return min(parts, 1 + since // config.epochs_per_layer)


def thaw(upstream: Upstream, trained: int) -> None:
    """Let the first `trained` parts from the top have gradients, and no others."""
    for number, part in enumerate(parts_from_the_top(upstream)):
        for parameter in part:
            parameter.requires_grad_(number < trained)
