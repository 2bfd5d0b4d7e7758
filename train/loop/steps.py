"""Steps of the optimiser: which batch ends one, and after which of them something is due."""

from collections.abc import Callable

from pytorch_lightning import Trainer

Due = Callable[[int], bool]


def every(count: int, *, last: int) -> Due:
    """Return a function that is true of the multiples of `count` and of the last step."""
    return lambda step: step % count == 0 or step == last


def ended_step(trainer: Trainer) -> bool:
    """Return whether the batch that was just trained on was the last one of its step."""
    batch = trainer.fit_loop.epoch_loop.batch_idx
    return (batch + 1) % trainer.accumulate_grad_batches == 0
