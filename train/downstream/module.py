"""The step that downstream training repeats, and the model that did best on the dev part."""

import copy
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aalbert.models.downstream import DownstreamModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.labels import ColumnLabels, classification_loss
from aalbert.train.downstream.phones import FrameLabels
from aalbert.train.downstream.selection import quality_of
from aalbert.train.fine_tuning import parts_from_the_top, thaw, trained_parts
from aalbert.train.loop.validation import Measurement
from aalbert.train.seeds import seed_of


class HeadTraining(LightningModule):
    """Glues a downstream model to its labels and its optimiser.

    `epoch_ends` are the steps at which epochs end.
    """

    def __init__(
        self,
        model: DownstreamModel,
        labels: ColumnLabels | FrameLabels,
        config: DownstreamConfig,
        epoch_ends: Sequence[int],
    ) -> None:
        super().__init__()
        self.model = model
        self.labels = labels
        self.config = config
        self.epoch_ends = epoch_ends

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, step), and train the parts whose turn it is."""
        torch.manual_seed(seed_of(self.config.seed, "dropout", self.global_step))
        if self.config.mode == "fine-tuned":
            epoch = bisect_right(self.epoch_ends, self.global_step)
            parts = len(parts_from_the_top(self.model.upstream))
            thaw(self.model.upstream, trained_parts(epoch, parts, self.config.fine_tuning))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        states, lengths = self.model.states(batch.features, batch.lengths)
        scores = self.model.head(states, lengths)
        targets = self.labels.targets(batch.rows, lengths, scores)
        return classification_loss(scores, targets, self.config.head)

    def configure_optimizers(self) -> Any:
        """Return AdamW with a learning rate for the head, and one for the encoder if it learns."""
        config, steps = self.config, self.epoch_ends[-1]
        groups = [{"params": list(self.model.head.parameters()), "lr": config.learning_rate}]
        factors: list[Callable[[int], float]] = [partial(head_factor, config=config, steps=steps)]
        if config.mode != "frozen":
            encoder = [one for part in parts_from_the_top(self.model.upstream) for one in part]
            rate = config.fine_tuning.encoder_learning_rate
            groups.append({"params": encoder, "lr": rate})
            factors.append(partial(encoder_factor, config=config, steps=steps))
        optimiser = AdamW(groups, weight_decay=config.weight_decay)
        scheduler = {"scheduler": LambdaLR(optimiser, factors), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


def head_factor(step: int, *, config: DownstreamConfig, steps: int) -> float:
    """Return the factor of the head's learning rate for a step, counted from 0."""
    return factor_of(step, round(config.warmup_proportion * steps), steps, decay=config.decay)


def encoder_factor(step: int, *, config: DownstreamConfig, steps: int) -> float:
    """Return the factor of the encoder's learning rate for a step, counted from 0."""
    warmup_steps = round(config.fine_tuning.warmup_proportion * steps)
    return factor_of(step, warmup_steps, steps, decay=config.decay)


def factor_of(step: int, warmup_steps: int, steps: int, *, decay: bool) -> float:
    """Rise linearly to 1 over `warmup_steps`, then stay, or fall linearly to 0 at `steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps)) if decay else 1.0


class BestModel(Callback):
    """Measures on the dev part and keeps the weights that did best there.

    A frozen upstream is not kept with the head. The best weights travel with saved states.
    """

    def __init__(self, model: DownstreamModel, measure: Callable[[], Measurement]) -> None:
        self.kept = model.head if model.frozen else model
        self.measure_dev = measure
        self.best: dict[str, Any] = {"quality": None, "weights": {}}

    def measure(self) -> Measurement:
        """Return what was measured, and keep the weights if they are the best so far."""
        measurement = self.measure_dev()
        quality = quality_of(measurement)
        if self.best["quality"] is None or quality > tuple(self.best["quality"]):
            self.best = {"quality": quality, "weights": copy.deepcopy(self.kept.state_dict())}
        return measurement

    def restore(self) -> None:
        """Put the best weights into the model."""
        self.kept.load_state_dict(self.best["weights"])

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights so far."""
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best weights of a saved state."""
        self.best = state_dict
