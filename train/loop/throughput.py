"""Speed of training: operations of the model, peaks of devices, and the time spent on steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from aalbert.models.costs import count_work
from aalbert.models.pretrained import PretrainedModel

# Peak operations per second, dense: (16-bit tensor cores with float32 sums, float32 without
# tensor cores), from NVIDIA's data sheets; half of the figures that include sparsity. The first
# name that is part of the device's name applies.
PEAK_TERA_FLOPS = {
    "H200": (989.5, 67.0),
    "H100 NVL": (835.5, 60.0),
    "H100 PCIe": (756.5, 51.2),
    "H100": (989.5, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "L4": (121.0, 30.3),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
    "V100": (125.0, 15.7),
    "T4": (65.0, 8.1),
}
# For each product of matrices in the forward pass, the backward pass computes two of its size.
FORWARD_AND_BACKWARD = 3
# A multiplication and an addition are two operations.
OPERATIONS_PER_MULTIPLY_ACCUMULATE = 2


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the peak operations per second of a device at a precision; None if unknown."""
    if device.type != "cuda":
        return None
    full = precision == "32-true"
    if full and torch.get_float32_matmul_precision() != "highest":
        return None
    name = torch.cuda.get_device_name(device)
    column = 1 if full else 0
    return next(
        (1e12 * tera[column] for part, tera in PEAK_TERA_FLOPS.items() if part in name), None
    )


@dataclass(frozen=True)
class ModelFlops:
    """Operations of a training step, as a function of the lengths of its utterances.

    A product of matrices `(m, k) (k, n)` is `2 m k n` operations. A layer has four projections of
    the attention and two of the feed-forward network, `2 (4 W² + 2 W F)` for each frame, and the
    scores and sums of the attention, `4 W T` for each frame of an utterance of `T` frames
    (Chowdhery et al. 2022, PaLM, appendix B, where a training step is three times a forward pass).
    Every application of a layer counts, shared or not. Norms, activations, front end and optimiser
    are left out. Utterances are assumed to be no longer than the encoder attends over at once.
    """

    per_frame: float
    per_squared_frame: float

    @classmethod
    def of(cls, model: PretrainedModel) -> "ModelFlops":
        """Count per stored frame, of which the encoder may stack several into one."""
        heads = sum(weight.numel() for weight in model.heads.parameters() if weight.ndim == 2)
        encoder, front_end = model.config.encoder, model.config.front_end
        assert encoder is not None
        work = count_work(encoder, front_end.input_dims, frames=1)
        operations = FORWARD_AND_BACKWARD * OPERATIONS_PER_MULTIPLY_ACCUMULATE
        stacked = front_end.frames_stacked
        return cls(
            per_frame=operations * (work.input_projection + work.layers + heads) / stacked,
            per_squared_frame=operations * work.attention / stacked**2,
        )

    def count(self, frames: float, squared_frames: float) -> float:
        """Return the operations for a number of real frames and the sum of squared lengths."""
        return self.per_frame * frames + self.per_squared_frame * squared_frames


class Clock:
    """The seconds spent on training steps; it is stopped during everything else."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start again from 0."""
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds since the last restart, without those when it was stopped; never 0."""
        return max(1e-9, time.perf_counter() - self._started)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock during the block."""
        began = time.perf_counter()
        yield
        self._started += time.perf_counter() - began
