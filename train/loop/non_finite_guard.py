"""Steps whose gradient is not finite: kept from changing the weights, and written down."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from aalbert.common.files import write_json
from aalbert.common.notes import say
from aalbert.errors import DivergedError
from aalbert.shards.loading.batch import Batch
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.steps import Due, ended_step

# A run that skips so many steps one after another will not recover.
MAX_SKIPPED_IN_A_ROW = 100


@dataclass
class RecentStep:
    """The utterances, losses and gradient norm of a step, kept on the device until the check."""

    step: int
    learning_rate: float
    rows: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    gradient_norm: Tensor | None = None


class NonFiniteGuard(Callback):
    """Prevents steps whose gradient is not finite from changing the weights.

    The decision is made on the device: the optimiser's fused kernels skip a step that is marked by
    `found_inf`, so nothing waits for it. `check`, which waits, runs after the steps that are
    `due`, before anything is measured or saved then: it writes the utterances of every such step to
    `nan-STEP.json`, and ends the run, or with `skip` continues it. `keys_of` returns the keys of
    the utterances in some rows, `way_out` ends the message. Under 16-mixed Lightning's gradient
    scaler skips such steps as part of its work, and reports nothing.
    """

    def __init__(
        self,
        folder: Path,
        keys_of: Callable[[list[int]], list[str]],
        due: Due,
        ranks: Ranks,
        *,
        skip: bool,
        way_out: str,
    ) -> None:
        self.folder = folder
        self.keys_of = keys_of
        self.due = due
        self.ranks = ranks
        self.skip = skip
        self.way_out = way_out
        self.skipped_in_a_row = 0
        self.recent: list[RecentStep] = []
        self.current: RecentStep | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, *_: Any
    ) -> None:
        """Note the utterances of the step."""
        if self.current is None:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.current = RecentStep(trainer.global_step + 1, rate)
        self.current.rows.append(batch.rows.clone())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Mark the step if its gradient is not finite."""
        assert self.current is not None
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        norm = get_total_norm(gradients)
        if trainer.precision == "16-mixed":
            return
        self.current.gradient_norm = norm
        if optimizer.param_groups[0].get("fused"):
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            optimizer.grad_scale = None  # type: ignore[attr-defined]
        elif not math.isfinite(float(norm)):
            # The optimiser does not change weights without a gradient.
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Note the loss; the last batch of a step completes it."""
        assert self.current is not None
        self.current.losses.append(outputs["loss"] * trainer.accumulate_grad_batches)
        if ended_step(trainer):
            self.recent.append(self.current)
            self.current = None
            if self.due(trainer.global_step):
                self.check()

    def check(self) -> None:
        """Check the steps since the last check; may raise `DivergedError`, see `report`."""
        recent, self.recent = self.recent, []
        norms = [step.gradient_norm for step in recent if step.gradient_norm is not None]
        finite = torch.stack(norms).isfinite().tolist() if norms else []
        for step, good in zip(recent, finite, strict=False):
            self.skipped_in_a_row = 0 if good else self.skipped_in_a_row + 1
            if not good:
                self.report(step)

    def report(self, step: RecentStep) -> None:
        """Write the utterances of a step, and print that it was skipped or end the run.

        Raises `DivergedError` without `skip`, and after too many such steps in a row.
        """
        rows = [row for batch in step.rows for row in batch.tolist() if row >= 0]
        losses = [float(loss) for loss in step.losses]
        gathered = self.ranks.gather((self.keys_of(rows), losses))
        path = self.folder / f"nan-{step.step:08d}.json"
        losses = [loss for _, of_rank in gathered for loss in of_rank]
        if self.ranks.first:
            document = {
                "step": step.step,
                "losses": [loss if math.isfinite(loss) else str(loss) for loss in losses],
                "learning_rate": step.learning_rate,
                "keys": [key for of_rank, _ in gathered for key in of_rank],
            }
            write_json(path, document)
        what = f"the gradient of step {step.step} is not finite (loss {losses})"
        if not self.skip or self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"{what}; its utterances are in {path}. The weights are as they were before, and "
                f"the checkpoints are kept: {self.way_out}"
            )
        say(f"{what}: skipped; its utterances are in {path}")
