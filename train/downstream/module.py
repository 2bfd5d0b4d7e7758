"""The training step of a downstream model, and the schedule of an encoder trained with its head."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aalbert.common.notes import warn
from aalbert.models.any_upstream import AnyUpstream
from aalbert.models.downstream import DownstreamModel
from aalbert.models.upstream import Upstream
from aalbert.shards.loading.batch import Batch
from aalbert.train.downstream.config import DownstreamConfig, FineTuningConfig
from aalbert.train.downstream.objectives import TaskLabels, training_loss
from aalbert.train.loop.config import share_of_steps
from aalbert.train.loop.optimiser import learning_rate_factor
from aalbert.train.loop.trainer import average_gradients
from aalbert.train.randomness import seed_of

# Fine-tuned at 0.1, s3prl's HuBERT fell to 0.25 % and 0.07 % on VoxCeleb1 (its issue 583);
# the highest published rate that worked is Mockingjay's 4e-3 (Liu et al. 2020).
COLLAPSE_LEARNING_RATE = 1e-2


class HeadTraining(LightningModule):
    """A downstream model with its labels and its optimiser.

    `epoch_ends` are the steps at which epochs end.
    """

    def __init__(
        self,
        model: DownstreamModel,
        labels: TaskLabels,
        config: DownstreamConfig,
        epoch_ends: Sequence[int],
    ) -> None:
        super().__init__()
        self.model = model
        self.labels = labels
        self.config = config
        self.epoch_ends = epoch_ends
        self.groups = [] if config.mode == "frozen" else parameters_from_the_top(model.upstream)
        self.trained = len(self.groups)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, step, batch), and unfreeze the layers that this epoch trains."""
        # Its number among those of the step, of all ranks.
        share = self.trainer.accumulate_grad_batches
        number = self.global_rank * share + batch_idx % share
        torch.manual_seed(seed_of(self.config.seed, "dropout", self.global_step, number))
        if self.config.mode == "fine-tuned":
            epoch = bisect_right(self.epoch_ends, self.global_step)
            self.train_groups(trained_groups(epoch, len(self.groups), self.config.fine_tuning))

    def train_groups(self, count: int) -> None:
        """Train so many groups of the encoder's parameters, from the top, and freeze the others."""
        if count == self.trained:
            return
        self.trained = count
        for number, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(number < count)
        average_gradients(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, which is computed in float32."""
        states, lengths = self.model.states(batch.features, batch.lengths)
        scores = self.model.head(states, lengths)
        with torch.autocast(scores.device.type, enabled=False):
            return training_loss(self.labels, batch.rows, lengths, scores, self.config.head)

    def configure_optimizers(self) -> Any:
        """Return AdamW with a learning rate for the head, and one for a trained encoder."""
        config, steps = self.config, self.epoch_ends[-1]
        groups = [{"params": list(self.model.head.parameters()), "lr": config.learning_rate}]
        warmups = [config.warmup_proportion]
        if config.mode != "frozen":
            encoder = [parameter for group in self.groups for parameter in group]
            rate = config.fine_tuning.encoder_learning_rate
            groups.append({"params": encoder, "lr": rate})
            warmups.append(config.fine_tuning.warmup_proportion)
        factors: list[Callable[[int], float]] = [
            partial(
                learning_rate_factor,
                warmup_steps=share_of_steps(warmup, steps),
                steps=steps,
                decay=config.decay,
            )
            for warmup in warmups
        ]
        optimiser = AdamW(groups, weight_decay=config.weight_decay)
        scheduler = {"scheduler": LambdaLR(optimiser, factors), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


def warn_of_collapse(config: FineTuningConfig) -> None:
    """Warn on stderr of an encoder's learning rate at which fine-tuning is known to fail."""
    rate = config.encoder_learning_rate
    if rate >= COLLAPSE_LEARNING_RATE:
        warn(
            f"fine_tuning.encoder_learning_rate is {rate:g}: an encoder trained at 0.1 is "
            "known to lose what it has learned and to end at chance; 1e-5 to 1e-3 is usual",
        )


def parameters_from_the_top(upstream: AnyUpstream) -> list[list[nn.Parameter]]:
    """Return the parameters to train in groups: those of layers, last one first, then the rest.

    A shared layer is one group. What no chosen state depends on is in none.
    """
    assert isinstance(upstream, Upstream), "an encoder of another library is frozen"
    assert upstream.encoder is not None, "plain features have nothing to train"
    layers = [list(layer.parameters()) for layer in reversed(list(upstream.encoder.layers))]
    of_layers = {id(parameter) for layer in layers for parameter in layer}
    rest = [one for one in upstream.parameters() if id(one) not in of_layers]
    groups = [[one for one in group if one.requires_grad] for group in (*layers, rest)]
    return [group for group in groups if group]


def trained_groups(epoch: int, groups: int, config: FineTuningConfig) -> int:
    """Return the number of groups, from the top, that an epoch (the first is 0) trains."""
    since = epoch - config.frozen_epochs
    if since < 0:
        return 0
    if config.epochs_per_layer == 0:
        return groups
    return min(groups, 1 + since // config.epochs_per_layer)
