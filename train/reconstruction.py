"""Masked reconstruction: the step that pretraining repeats, and its measure on held-out speech."""

from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.batch import Batch
from aalbert.train.configs import PretrainConfig
from aalbert.train.masking import MaskingConfig, corrupt, draw_mask, masked_l1
from aalbert.train.schedule import linear_warmup_and_decay
from aalbert.train.seeds import generator_of, seed_of

# Crops and masks of the held-out part are the same in every run.
VALIDATION_SEED = 0


class Pretraining(LightningModule):
    """Glues a model to its optimiser: mask, reconstruct, compare."""

    def __init__(self, model: PretrainedModel, config: PretrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, step), so that a resumed run draws the same."""
        torch.manual_seed(seed_of(self.config.seed, "dropout", self.global_step))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, masked from (seed, step)."""
        generator = generator_of(self.config.seed, "mask", self.global_step)
        loss, _ = reconstruction_loss(self.model, batch, self.config.masking, generator)
        return loss

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm of the gradient; Lightning refuses to with a fused optimiser."""
        clip_grad_norm_(self.model.parameters(), self.config.optimiser.gradient_clip)

    def configure_optimizers(self) -> Any:
        """Return AdamW with its learning rate set anew at every step."""
        settings = self.config.optimiser
        optimiser = AdamW(
            parameter_groups(self.model, settings.weight_decay),
            lr=settings.learning_rate,
            # Only these kernels can pass over a step without asking the device first.
            fused=self.config.precision != "16-mixed",
        )
        factor = partial(
            linear_warmup_and_decay,
            warmup_steps=round(settings.warmup_proportion * self.config.steps),
            steps=self.config.steps,
        )
        scheduler = {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


def reconstruction_loss(
    model: PretrainedModel, batch: Batch, masking: MaskingConfig, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Mask a batch and return the mean error per masked element, and the masked frames."""
    prepared = model.upstream.front_end(batch.features, batch.lengths)
    mask = draw_mask(prepared.lengths, prepared.inputs.shape[1], masking, generator)
    masked = corrupt(prepared.inputs, mask, prepared.lengths, masking, generator)
    features = {model.config.features["kind"]: batch.features}
    targets = model.prepare_targets(features, batch.lengths)
    losses = [
        masked_l1(predicted, targets[feature], mask.to(predicted.device))
        for feature, predicted in model(masked, prepared.lengths).items()
    ]
    return torch.stack(losses).sum(), int(mask.sum())


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the weights with decay, and biases and layer norms without, as BERT has it."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
