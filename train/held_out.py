"""The loss on held-out speech: crops and masks that never change, over all ranks."""

from collections.abc import Callable

import torch

from aalbert.shards.loading.loader import Loader
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.validation import Measurement
from aalbert.train.pretraining.loss import Errors
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED, measure_errors, reconstruct
from aalbert.train.seeds import seed_of


@torch.no_grad()
def held_out_loss(
    module: Pretraining,
    loader: Loader,
    ranks: Ranks,
    stopped: Callable[[], bool],
) -> Measurement | None:
    """Return the mean error per masked element, or None when a signal came on some rank."""
    seed, config = seed_of(VALIDATION_SEED, "mask"), module.config
    targets = len(config.objective.targets) or 1
    errors = Errors(*torch.zeros(2, targets, device=module.device))
    for batch in loader:
        if stopped():
            break
        moved = batch.to(module.device)
        result = reconstruct(module.model, moved, config.masking, seed)
        errors += measure_errors(result, config.objective)
    *numbers, signals = ranks.total(*errors.sums.tolist(), *errors.counts.tolist(), stopped())
    if signals:
        return None
    total = Errors(*torch.tensor(numbers).view(2, targets))
    return {"validation_loss": float(total.loss(config.objective))}
