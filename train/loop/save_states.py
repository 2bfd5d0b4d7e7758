"""Saving the state of training after the steps that are due, and when a signal asks for it."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.common.files import TEMPORARY_SUFFIX
from aalbert.train.loop.checkpoints import hash_path, list_states, state_path, step_of
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.steps import Due, ended_step
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.validation import Validation


class SaveStates(Callback):
    """Saves the state of training after the steps that are due, and keeps the latest few.

    The state of the best step that `validation` knows is kept too. The first rank writes; all
    take part.
    """

    def __init__(
        self,
        folder: Path,
        due: Due,
        keep: int,
        *,
        guard: NonFiniteGuard,
        validation: Validation,
        ranks: Ranks,
        clock: Clock,
    ) -> None:
        self.folder = folder
        self.due = due
        self.keep = keep
        self.guard = guard
        self.ranks = ranks
        self.validation = validation
        self.clock = clock
        self.saved: int | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Save when it is time to."""
        if ended_step(trainer) and self.due(trainer.global_step):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the whole state of training, once a step, and drop the states that are too old."""
        if self.saved == trainer.global_step:
            return
        self.guard.check()
        with self.clock.stopped():
            if self.ranks.first:
                for left_over in self.folder.glob(f"*{TEMPORARY_SUFFIX}"):
                    left_over.unlink()
            trainer.save_checkpoint(state_path(self.folder, trainer.global_step))
            if self.ranks.first:
                self.drop_old(trainer.global_step)
        self.saved = trainer.global_step

    def drop_old(self, step: int) -> None:
        """Remove all states up to a step but the latest and the best.

        Later ones were found damaged when the run continued, and count for nothing.
        """
        states = [path for path in list_states(self.folder) if step_of(path) <= step]
        for old in states[: -self.keep]:
            if step_of(old) != self.validation.best_step:
                old.unlink()
                hash_path(old).unlink(missing_ok=True)
