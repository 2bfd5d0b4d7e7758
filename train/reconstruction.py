"""Masked reconstruction: the step that pretraining repeats, and its measure on held-out speech."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from aalbert.models.layout import Packed
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.batch import Batch
from aalbert.train.configs import PretrainConfig
from aalbert.train.corruption import corrupt
from aalbert.train.draws import Draws
from aalbert.train.frames import Frames, frames_of
from aalbert.train.masking import Mask, MaskingConfig, draw_mask
from aalbert.train.objective import Errors, ObjectiveConfig, chosen_elements, measure_target
from aalbert.train.schedule import linear_warmup_and_decay
from aalbert.train.seeds import seed_of

# Crops and masks of the held-out part are the same in every run.
VALIDATION_SEED = 0


@dataclass(frozen=True)
class Reconstruction:
    """A masked batch and what a model makes of it; the frames of all utterances on one axis.

    `feature` is what the encoder read, as `inputs (frames, input dims)`; `predicted` and `targets`
    `(frames, dims)` lie by feature.
    """

    feature: str
    frames: Frames
    mask: Mask
    inputs: Tensor
    predicted: dict[str, Tensor]
    targets: dict[str, Tensor]


class Pretraining(LightningModule):
    """Glues a model to its optimiser: mask, reconstruct, compare."""

    def __init__(self, model: PretrainedModel, config: PretrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        if config.compile and model.upstream.encoder is not None:
            model.upstream.encoder.compile()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (seed, step, rank, batch), so that a resumed run draws the same."""
        words = ("dropout", self.global_step, self.global_rank, batch_idx)
        torch.manual_seed(seed_of(self.config.seed, *words))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, masked from (seed, step)."""
        seed = seed_of(self.config.seed, "mask", self.global_step)
        errors = measure_errors(
            reconstruct(self.model, batch, self.config.masking, seed), self.config.objective
        )
        return errors.loss(self.config.objective)

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
            warmup_steps=settings.count_warmup_steps(self.config.steps),
            steps=self.config.steps,
        )
        scheduler = {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


def reconstruct(
    model: PretrainedModel, batch: Batch, masking: MaskingConfig, seed: int
) -> Reconstruction:
    """Mask a batch on its device, from the seed and the rows of its utterances, and restore it."""
    packed = batch.features.ndim == 2
    layout = Packed(batch.offsets, batch.longest) if packed else batch.lengths
    feature, dims = model.config.features["kind"], model.config.front_end.feature_dims
    prepared = model.upstream.front_end(batch.features, layout)
    frames = frames_of(prepared.inputs, prepared.lengths)
    draws = Draws(seed, batch.rows)
    mask = draw_mask(frames, dims, masking, draws)
    inputs = prepared.inputs.reshape(-1, prepared.inputs.shape[-1])
    inputs = corrupt(inputs, mask, frames, masking, draws, model.mask_token)
    predicted = model(inputs.view_as(prepared.inputs), prepared.lengths)
    stored = {feature: batch.features, **batch.targets}
    targets = model.prepare_targets(stored, layout)
    return Reconstruction(feature, frames, mask, inputs, flatten(predicted), flatten(targets))


def flatten(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the frames of padded batches on one axis; packed ones are so already."""
    return {name: values.reshape(-1, values.shape[-1]) for name, values in features.items()}


def measure_errors(result: Reconstruction, objective: ObjectiveConfig) -> Errors:
    """Return the errors of a reconstruction, target by target."""
    sums, counts = [], []
    for name in objective.targets or (result.feature,):
        target = result.targets[name]
        chosen = chosen_elements(
            result.mask,
            result.frames,
            target.shape[1],
            objective,
            has_bands=name == result.feature,
        )
        total, count = measure_target(result.predicted[name], target, chosen, objective.loss)
        sums.append(total)
        counts.append(count)
    return Errors(torch.stack(sums), torch.stack(counts))


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the weights with decay, and biases and layer norms without, as BERT has it."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
