"""Masked reconstruction: the output of a model for a masked batch, and its errors."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.layout import Packed
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.config import MaskingConfig, ObjectiveConfig
from aalbert.train.pretraining.loss import ErrorSums, chosen_elements, measure_target
from aalbert.train.pretraining.masking import Frames, Mask, corrupt, draw_mask, frames_of, layout_of
from aalbert.train.randomness import Draws, uniform_integer

# The crops and masks of held-out utterances are the same in every run.
VALIDATION_SEED = 0


@dataclass(frozen=True)
class Reconstruction:
    """A masked batch and its reconstruction, with the frames of all utterances on one axis.

    The encoder reads `feature`, as `inputs (frames, input dims)`, which are `unmasked` with nothing
    hidden; their `layout` is their lengths, padded, or packed. `targets` and `predicted` map each
    target feature to `(frames, dims)`. Nothing is predicted, and there are no `last` states
    `(frames, width)`, before the encoder has read the inputs.
    """

    feature: str
    frames: Frames
    mask: Mask
    unmasked: Tensor
    inputs: Tensor
    layout: Tensor | Packed
    targets: dict[str, Tensor]
    predicted: dict[str, Tensor] = field(default_factory=dict)
    last: Tensor | None = None


def reconstruct(
    model: PretrainedModel,
    batch: Batch,
    masking: MaskingConfig,
    seed: int,
    *,
    random_positions: bool = False,
) -> Reconstruction:
    """Mask a batch as `mask_batch` does, and predict its targets.

    With `random_positions` those of an utterance begin at a random one of the encoder's.
    """
    masked = mask_batch(model, batch, masking, seed)
    inputs, layout, first = masked.inputs, masked.layout, None
    if isinstance(layout, Tensor):
        inputs = inputs.view(len(layout), -1, inputs.shape[-1])
    if random_positions:
        draws = Draws(seed, batch.rows)
        first = first_positions(model.config.encoder, masked.frames, draws)
    last = model.encode(inputs, layout, first)
    predicted = flatten(model.predict(last))
    return replace(masked, predicted=predicted, last=last.reshape(-1, last.shape[-1]))


def mask_batch(
    model: PretrainedModel, batch: Batch, masking: MaskingConfig, seed: int
) -> Reconstruction:
    """Mask a batch on its device, by the seed and the rows of its utterances."""
    layout = layout_of(batch)
    feature, dims = model.config.features["kind"], model.config.front_end.feature_dims
    prepared = model.upstream.front_end(batch.features, layout)
    frames = frames_of(prepared.inputs, prepared.lengths)
    draws = Draws(seed, batch.rows)
    mask = draw_mask(frames, dims, masking, draws)
    unmasked = prepared.inputs.reshape(-1, prepared.inputs.shape[-1])
    inputs = corrupt(unmasked, mask, frames, masking, draws, model.mask_token)
    stored = {feature: batch.features, **batch.targets}
    targets = flatten(model.prepare_targets(stored, layout))
    return Reconstruction(feature, frames, mask, unmasked, inputs, prepared.lengths, targets)


def first_positions(config: EncoderConfig | None, frames: Frames, draws: Draws) -> Tensor:
    """Draw the position at which each utterance begins, `(batch,)`: all of them must be known."""
    assert config is not None and config.position_frames is not None
    return uniform_integer(draws.keys("positions"), config.position_frames - frames.lengths + 1)


def flatten(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the frames of padded batches on one axis, on which those of packed ones already are."""
    return {name: values.reshape(-1, values.shape[-1]) for name, values in features.items()}


def measure_errors(result: Reconstruction, objective: ObjectiveConfig) -> ErrorSums:
    """Return the error of each target of a reconstruction, summed over the chosen elements."""
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
    return ErrorSums(torch.stack(sums), torch.stack(counts))
