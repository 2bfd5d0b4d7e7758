"""The loss on held-out speech: crops and masks that never change, over all ranks."""

from collections.abc import Callable

import torch

from aalbert.shards.loader import Loader
from aalbert.train.ranks import Ranks
from aalbert.train.reconstruction import VALIDATION_SEED, Pretraining, reconstruction_loss
from aalbert.train.seeds import generator_of
from aalbert.train.validation import Measurement


@torch.no_grad()
def held_out_loss(
    module: Pretraining,
    loader: Loader,
    ranks: Ranks,
    stopped: Callable[[], bool],
) -> Measurement | None:
    """Return the mean error per masked element, or None when a signal came on some rank."""
    error, frames = 0.0, 0.0
    for index, batch in enumerate(loader):
        if stopped():
            break
        generator = generator_of(VALIDATION_SEED, "mask", index)
        moved = batch.to(module.device)
        masking = module.config.masking
        loss, masked = reconstruction_loss(module.model, moved, masking, generator)
        error += float(loss) * masked
        frames += masked
    error, frames, signals = ranks.total(error, frames, stopped())
    return None if signals else {"validation_loss": error / frames}
