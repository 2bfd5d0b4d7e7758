"""The stage `agreement`: masks, losses and gradients of the GPU are those of the CPU.

One batch of every preset, without dropout, padded in float32 on the CPU, is what the device is
compared with: padded in float32, and padded and packed under bfloat16 autocast. Masks are equal.
The loss and the norm of the gradient's difference are relative to the CPU's. In float32 both are
within 1e-4. Under bfloat16 the loss is within the 2 % of hidden states (docs/models.md), the
gradient, in which rounding adds up through the layers, within 5 %; on a processor 0.4 to 0.9 %
were found with 3 and 12 layers. Errors are squared: the gradient of an absolute one jumps when
rounding turns its sign.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aalbert.shards.loading.batch import Batch
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.build import build_model, make_loaders, select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.reconstruction import measure_errors, reconstruct
from benchmarks.gpu.attempts import Attempts
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config
from benchmarks.pretrain_steps import scale

# A second or two of a processor, for the deepest model.
SECONDS_PER_BATCH = 16.0
CROP_SECONDS = 4.0
TOLERANCES = {"float32": (1e-4, 1e-4), "bfloat16": (2e-2, 5e-2)}
WAYS = (("padded", "float32"), ("padded", "bfloat16"), ("packed", "bfloat16"))
MASKS = ("frames", "zeroed", "replaced", "source", "bands")


class Outcome(NamedTuple):
    """The masks of a batch by name, its loss, and the gradient of all weights `(weights,)`."""

    masks: dict[str, Tensor]
    loss: float
    gradient: Tensor


def run(context: Context) -> None:
    """Compare every preset in every way."""
    attempts = Attempts(context)
    for name in preset_names():
        with attempts.attempt(preset=name):
            config = smooth(read_preset_config(name, context))
            data = data_for(config, context)
            expected = outcome(config, data, "padded", "float32", torch.device("cpu"))
            for batching, precision in WAYS:
                with attempts.attempt(preset=name, batching=batching, precision=precision):
                    found = outcome(config, data, batching, precision, torch.device(context.device))
                    line = compare(found, expected, precision)
                    way = {"preset": name, "batching": batching, "precision": precision}
                    context.write(kind="agreement", **way, **line)
                    if not line["agrees"]:
                        raise ValueError(f"differs from the CPU: {line}")
    attempts.end()


def smooth(config: PretrainConfig) -> PretrainConfig:
    """Return settings without dropout and with squared errors, for a small batch."""
    encoder = replace(config.encoder, dropout=0.0, attention_dropout=0.0)
    objective = replace(config.objective, loss="l2")
    config = scale(replace(config, encoder=encoder, objective=objective), SECONDS_PER_BATCH)
    crop = min(CROP_SECONDS, config.data.crop_seconds)
    shortest = min(config.data.shortest_seconds, crop / 2)
    data = replace(config.data, crop_seconds=crop, shortest_seconds=shortest, prefetch=0)
    return replace(config, data=data)


def outcome(
    config: PretrainConfig, data: Path, batching: str, precision: str, device: torch.device
) -> Outcome:
    """Return what the first utterances give on a device."""
    selections = select_utterances(config, [Dataset(data)])
    module = Pretraining(build_model(config, selections), config).to(device)
    batch = same_utterances(config, data, batching).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        result = reconstruct(module.model, batch, config.masking, seed=1)
        loss = measure_errors(result, config.objective).loss(config.objective)
    torch.autograd.backward(loss)
    gradients = [each.grad for each in module.parameters() if each.grad is not None]
    masks = {name: getattr(result.mask, name) for name in MASKS}
    return Outcome(
        masks={name: mask.cpu() for name, mask in masks.items() if mask is not None},
        loss=float(loss.detach()),
        gradient=torch.cat([gradient.float().cpu().flatten() for gradient in gradients]),
    )


def same_utterances(config: PretrainConfig, data: Path, batching: str) -> Batch:
    """Return the same utterances in either layout."""
    selections = select_utterances(config, [Dataset(data)])
    # An epoch's first padded batch; the packed one is made of the same rows.
    padded: Batch = next(iter(make_loaders(config, selections)[0]))
    return pack(padded) if batching == "packed" else padded


def pack(batch: Batch) -> Batch:
    """Return a padded batch without its padding."""
    lengths = batch.lengths.tolist()

    def joined(padded: Tensor) -> Tensor:
        return torch.cat([row[:length] for row, length in zip(padded, lengths, strict=True)])

    return replace(
        batch,
        features=joined(batch.features),
        targets={name: joined(target) for name, target in batch.targets.items()},
    )


def compare(found: Outcome, expected: Outcome, precision: str) -> dict[str, float | bool | None]:
    """Return the relative differences, and whether all is within its limit.

    Masks are compared in the same layout only; `masks_equal` is None otherwise.
    """
    masks_equal = None
    if found.masks["frames"].shape == expected.masks["frames"].shape:
        masks_equal = same_masks(found.masks, expected.masks)
    loss = abs(found.loss - expected.loss) / expected.loss
    gradient = float((found.gradient - expected.gradient).norm() / expected.gradient.norm())
    most_loss, most_gradient = TOLERANCES[precision]
    agrees = masks_equal is not False and loss <= most_loss and gradient <= most_gradient
    return {"masks_equal": masks_equal, "loss": loss, "gradient": gradient, "agrees": agrees}


def same_masks(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Return whether all masks are equal."""
    return all(torch.equal(found[name], mask) for name, mask in expected.items())
