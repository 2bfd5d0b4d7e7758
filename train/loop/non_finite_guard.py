"""Steps whose numbers are not finite: kept away from the weights, and written down."""

import math
import sys
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
from aalbert.errors import DivergedError
from aalbert.shards.loading.batch import Batch
from aalbert.train.loop.config import Policy
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.steps import Due, ended_step

# A run that skips so many steps one after another will not recover.
MOST_SKIPPED = 100

KeysOf = Callable[[list[int]], list[str]]


@dataclass
class RecentStep:
    """What a step was made of, kept on the device until somebody asks."""

    step: int
    learning_rate: float
    rows: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    gradient_norm: Tensor | None = None


class NonFiniteGuard(Callback):
    """Lets no step change the weights whose gradient is not finite.

    The decision is made on the device: the optimiser's fused kernels pass over a step marked by
    `found_inf`, so nothing waits for it. `check`, which waits, comes after the steps that are
    `due`, before what is measured and saved then: it writes the utterances of every such step to
    `nan-STEP.json`, and ends the run, or with the policy `skip` goes on. Under 16-mixed
    Lightning's gradient scaler passes over such steps as a part of its work, and says nothing.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        keys_of: KeysOf,
        due: Due,
        ranks: Ranks,
    ) -> None:
        self.folder = folder
        self.due = due
        self.policy = policy
        self.keys_of = keys_of
        self.ranks = ranks
        self.skipped = 0
        self.recent: list[RecentStep] = []
        self.current: RecentStep | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, *_: Any
    ) -> None:
        """Note which utterances the step takes."""
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
            # Weights without a gradient are left as they are.
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Note the loss; a step is complete with its last batch."""
        assert self.current is not None
        self.current.losses.append(outputs["loss"] * trainer.accumulate_grad_batches)
        if ended_step(trainer):
            self.recent.append(self.current)
            self.current = None
            if self.due(trainer.global_step):
                self.check()

    def check(self) -> None:
        """Look at the steps since the last check; `DivergedError` as the policy says."""
        recent, self.recent = self.recent, []
        norms = [step.gradient_norm for step in recent if step.gradient_norm is not None]
        finite = torch.stack(norms).isfinite().tolist() if norms else []
        for step, good in zip(recent, finite, strict=False):
            self.skipped = 0 if good else self.skipped + 1
            if not good:
                self.report(step)

    def report(self, step: RecentStep) -> None:
        """Write down what a step was made of, and end the run or say that it was passed over."""
        rows = [row for some in step.rows for row in some.tolist() if row >= 0]
        losses = [float(loss) for loss in step.losses]
        gathered = self.ranks.gather((self.keys_of(rows), losses))
        path = self.folder / f"nan-{step.step:08d}.json"
        losses = [loss for _, some in gathered for loss in some]
        if self.ranks.first:
            document = {
                "step": step.step,
                "losses": [loss if math.isfinite(loss) else str(loss) for loss in losses],
                "learning_rate": step.learning_rate,
                "keys": [key for some, _ in gathered for key in some],
            }
            write_json(path, document)
        what = f"the gradient of step {step.step} is not finite (loss {losses})"
        if self.policy == "stop" or self.skipped >= MOST_SKIPPED:
            raise DivergedError(
                f"{what}; its utterances are in {path}. The weights are as they were before, and "
                "the checkpoints are kept: start again with a lower optimiser.learning_rate, or "
                "with on_nan=skip"
            )
        print(f"{what}: skipped; its utterances are in {path}", file=sys.stderr)
