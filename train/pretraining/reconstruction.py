"""Masked reconstruction: what a model makes of a masked batch, and how far off it is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aalbert.models.layout import Packed
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.loss import Errors, ObjectiveConfig, chosen_elements, measure_target
from aalbert.train.pretraining.masking import (
    Frames,
    Mask,
    MaskingConfig,
    corrupt,
    draw_mask,
    frames_of,
)
from aalbert.train.randomness import Draws

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
