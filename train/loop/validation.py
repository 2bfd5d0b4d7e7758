"""Measuring on held-out data after the steps that are due; a signal can interrupt it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.errors import DivergedError
from aalbert.train.loop.recorders import Recorder
from aalbert.train.loop.steps import Due, ended_step
from aalbert.train.loop.throughput import Clock

Measurement = dict[str, float]


class Validation(Callback):
    """Measures and records after the steps that are due, and notes the best step so far.

    Lightning's own validation loop depends on its epochs, which a run that counts steps and
    resumes anywhere does not have. `measure` returns None when a signal interrupted it: the
    measurement is owed then, and made when the run is resumed. The best step is the one with the
    lowest value of `best_by`. `way_out` ends the message of a value that is not finite.
    """

    def __init__(
        self,
        metrics: Recorder,
        measure: Callable[[], Measurement | None],
        due: Due,
        *,
        clock: Clock,
        way_out: str,
        best_by: str | None = None,
    ) -> None:
        self.metrics = metrics
        self.measure = measure
        self.due = due
        self.clock = clock
        self.way_out = way_out
        self.best_by = best_by
        self.owed: int | None = None
        self.best_step: int | None = None
        self.best = math.inf

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the measurement that a signal interrupted.

        It is made here because after the last step training does not start again.
        """
        if self.owed is not None:
            self.run(self.owed, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure after a step that is due."""
        if ended_step(trainer) and self.due(trainer.global_step):
            self.run(trainer.global_step, pl_module)

    def run(self, step: int, pl_module: LightningModule) -> None:
        """Measure, record, and note whether this step is the best.

        Raises `DivergedError` when a measured value is NaN or infinite.
        """
        # What is compiled for training would be compiled anew for batches of other shapes.
        with self.clock.stopped(), torch.compiler.set_stance("force_eager"):
            pl_module.eval()
            measured = self.measure()
            pl_module.train()
        self.owed = step if measured is None else None
        if measured is None:
            return
        for name, value in measured.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"the {name} is {value} at step {step}: the last good checkpoint is kept; "
                    f"{self.way_out}"
                )
        self.metrics.write(step=step, **measured)
        if self.best_by is not None and measured[self.best_by] < self.best:
            self.best, self.best_step = measured[self.best_by], step

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved with a state of training."""
        return {"owed": self.owed, "best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was saved with a state of training."""
        self.owed, self.best = state_dict["owed"], state_dict["best"]
        self.best_step = state_dict["best_step"]
