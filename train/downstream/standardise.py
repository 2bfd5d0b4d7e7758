"""The mean and deviation of hidden states over the frames to train on, for heads that want them."""

import torch
from torch import Tensor

from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.layout import frame_mask
from aalbert.shards.loading.loader import Loader
from aalbert.train.downstream.scoring import shown_batches

# Dimensions that do not vary, but for rounding, stay as they are.
LEAST_DEVIATION = 1e-6


@torch.no_grad()
def state_statistics(model: DownstreamModel, loader: Loader) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the chosen states `(states, width)` over a loader's frames."""
    head = model.eval().to(best_device()).head
    sums = torch.zeros(2, *head.mean.shape, dtype=torch.float64)
    frames = 0
    for batch in shown_batches(loader, "standardise states"):
        moved = batch.to(head.mean.device)
        states, lengths = model.states(moved.features, moved.lengths)
        real = frame_mask(lengths, states[0].shape[1])
        for number, state in enumerate(states):
            values = state[real].double().cpu()
            sums[:, number] += torch.stack([values.sum(dim=0), values.square().sum(dim=0)])
        frames += int(lengths.sum())
    mean, square = sums / frames
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return mean, torch.where(deviation > LEAST_DEVIATION, deviation, 1.0)
