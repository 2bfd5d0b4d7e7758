"""Saving the state of training after the steps that are due, and when a signal stops the run."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.models.training_states import state_path
from aalbert.train.loop.checkpoints import remove_old_states
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.steps import Due, ended_step
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.validation import Validation


class SaveStates(Callback):
    """Saves the state of training after the steps that are due, and keeps the latest `keep`.

    The state of the best step so far, which `validation` knows, is kept too. The first rank
    writes; all ranks take part.
    """

    def __init__(
        self,
        folder: Path,
        due: Due,
        keep: int,
        guard: NonFiniteGuard,
        validation: Validation,
        ranks: Ranks,
        clock: Clock,
    ) -> None:
        self.folder = folder
        self.due = due
        self.keep = keep
        self.guard = guard
        self.validation = validation
        self.ranks = ranks
        self.clock = clock
        self.saved: int | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Save after a step that is due."""
        if ended_step(trainer) and self.due(trainer.global_step):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the whole state of training, once for each step, and remove the old states."""
        step = trainer.global_step
        if self.saved == step:
            return
        self.guard.check()
        with self.clock.stopped():
            trainer.save_checkpoint(state_path(self.folder, step))
            self.remove_old(step)
        self.saved = step

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the state that was the best one until an owed validation after the last step."""
        self.remove_old(trainer.global_step)

    def remove_old(self, step: int) -> None:
        """Remove the states up to a step that are neither the latest nor the best, on one rank."""
        if self.ranks.first:
            best_step = self.validation.best_step
            remove_old_states(self.folder, step, keep=self.keep, best_step=best_step)
