"""The best linear predictor of hidden frames from their neighbours, by least squares."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.loader import Loader
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED, Reconstruction, mask_batch
from aalbert.train.pretraining.visible_frames import (
    VisibleFrames,
    find_visible,
    interpolate,
    interpolate_bands,
)
from aalbert.train.randomness import seed_of

# Stored frames on each side of a hidden encoder frame. More of them do not predict better from so
# few rows.
NEIGHBOURS = 4
# It is fitted on the hidden ones among so many encoder frames, from at most so many epochs.
FIT_FRAMES, FIT_EPOCHS = 100_000, 4
# The penalty of the coefficients' squares, as a share of the mean square of an input.
RIDGE = 0.01
# Rows are made so many at a time, to bound the memory.
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class LinearPredictor:
    """A linear function from the frames around a hidden one to all of its targets.

    It reads what the encoder reads: the hidden frame and `NEIGHBOURS` stored frames on each side,
    in which frames and bands that are hidden are interpolated from visible ones, and the first and
    the last frame are repeated beyond the ends. So interpolation is one of the functions that it
    is chosen from. `coefficients` are `(inputs, dims of all targets)`.
    """

    stacked: int
    coefficients: Tensor

    def predict(self, masked: Reconstruction, visible: VisibleFrames) -> dict[str, Tensor]:
        """Return the targets with their hidden frames replaced by predictions."""
        dims = [target.shape[1] for target in masked.targets.values()]
        predicted = {name: target.clone() for name, target in masked.targets.items()}
        for places, rows in neighbour_rows(masked, visible, self.stacked):
            outputs = torch.split((rows @ self.coefficients).float(), dims, dim=1)
            for target, output in zip(predicted.values(), outputs, strict=True):
                target[places] = output
        return predicted


def neighbour_rows(
    masked: Reconstruction, visible: VisibleFrames, stacked: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield places of hidden encoder frames, and the inputs `(places, inputs)` for them, float64.

    The inputs are the frames around each in their order, and a 1 for the constant.
    """
    values = masked.inputs.view(len(visible.visible), -1)
    bands = masked.mask.bands
    if bands is not None:
        # Deltas too have the dims of the stored feature.
        parts = values.view(-1, bands.shape[1])
        utterance = visible.utterance.repeat_interleave(len(parts) // len(values))
        absent = parts.new_zeros(parts.shape[1])
        values = interpolate_bands(parts, bands, utterance, absent).view_as(values)
    filled = interpolate(values, visible, values.new_zeros(values.shape[1]))
    offsets = torch.arange(-NEIGHBOURS, stacked + NEIGHBOURS, device=filled.device)
    for places in torch.split(masked.mask.frames.nonzero().squeeze(1), ROWS_AT_ONCE):
        hidden = (places * stacked).unsqueeze(1)
        around = (hidden + offsets).maximum(visible.first[hidden]).minimum(visible.last[hidden])
        rows = filled[around].flatten(1).double()
        yield places, torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def fit_linear_predictor(
    model: PretrainedModel,
    masking: MaskingConfig,
    training: Loader,
    device: torch.device,
    listener: SignalListener,
) -> LinearPredictor:
    """Fit the predictor to the training utterances, with masks like those of the model.

    `training` starts at its first batch. Of every batch the hidden frames are fitted. A signal ends
    the fit early.
    """
    stacked, frames, moments = model.config.front_end.frames_stacked, 0, None
    for number, batch in enumerate(chain(*[training] * FIT_EPOCHS)):
        seed = seed_of(VALIDATION_SEED, "linear predictor", number)
        masked = mask_batch(model, batch.to(device), masking, seed)
        visible = find_visible(masked.frames, masked.mask, stacked)
        targets = torch.cat(list(masked.targets.values()), dim=1).double()
        for places, rows in neighbour_rows(masked, visible, stacked):
            products = rows.T @ torch.cat([rows, targets[places]], dim=1)
            moments = products if moments is None else moments.add_(products)
        frames += int(masked.frames.lengths.sum())
        if frames >= FIT_FRAMES or listener.received is not None:
            break
    assert moments is not None, "there are training utterances, each with a hidden frame"
    return LinearPredictor(stacked, solve(moments))


def solve(moments: Tensor) -> Tensor:
    """Return the coefficients `(inputs, outputs)` of the normal equations.

    `moments (inputs, inputs + outputs)` are the products of the inputs with inputs and outputs,
    summed over the rows.
    """
    inputs = len(moments)
    gram, products = moments[:, :inputs], moments[:, inputs:]
    penalty = RIDGE * gram.diagonal().mean()
    factor = torch.linalg.cholesky(gram + penalty * torch.eye(inputs).to(gram))
    return torch.cholesky_solve(products, factor)
