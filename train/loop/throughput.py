"""How fast training is: operations of the model, what a device could do, and time that counts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from aalbert.models.costs import count_work
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch

# Peak operations per second, dense: (16-bit tensor cores with float32 sums, float32 without
# tensor cores), by NVIDIA's data sheets; half of the figures that count sparsity. The first name
# that is part of the device's own decides.
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
# The backward pass computes two products of the size of each one of the forward pass.
FORWARD_AND_BACKWARD = 3
# A multiplication and an addition are two.
OPERATIONS_PER_MULTIPLY_ACCUMULATE = 2


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return what a device can do per second at a precision; None where that is not known."""
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

    A product of matrices `(m, k) (k, n)` is `2 m k n` operations. A layer is four projections of
    the attention and two of the feed-forward network, `2 (4 W² + 2 W F)` for each frame, and the
    scores and sums of the attention, `4 W T` for each frame of an utterance of `T` frames
    (Chowdhery et al. 2022, PaLM, appendix B, where a training step is three times a forward pass).
    Every application of a layer counts, shared or not. Norms, activations, front end and optimiser
    are left out. Utterances are taken to be no longer than the encoder attends at once.
    """

    per_frame: float
    per_squared_frame: float

    @classmethod
    def of(cls, model: PretrainedModel) -> "ModelFlops":
        """Count for stored frames, several of which may be stacked to one of the encoder."""
        encoder, front_end = model.config.encoder, model.config.front_end
        assert encoder is not None
        work = count_work(encoder, front_end.input_dims, frames=1)
        heads = sum(weight.numel() for weight in model.heads.parameters() if weight.ndim == 2)
        operations = FORWARD_AND_BACKWARD * OPERATIONS_PER_MULTIPLY_ACCUMULATE
        stacked = front_end.frames_stacked
        return cls(
            per_frame=operations * (work.input_projection + work.layers + heads) / stacked,
            per_squared_frame=operations * work.attention / stacked**2,
        )

    def count(self, frames: float, squared_frames: float) -> float:
        """Return the operations for so many real frames, and sum of squares of the lengths."""
        return self.per_frame * frames + self.per_squared_frame * squared_frames


@dataclass
class Tally:
    """What has been trained on since it was last emptied; counted on the host."""

    real_frames: int = 0
    squared_frames: int = 0
    padded_frames: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.real_frames += batch.real_frames
        self.squared_frames += batch.squared_frames
        self.padded_frames += batch.features.shape[:-1].numel()


class Clock:
    """The seconds spent on training steps; what else goes on stops it."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin again at 0."""
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time that counts since the last restart, never 0."""
        return max(1e-9, time.perf_counter() - self._started)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what happens in the block."""
        began = time.perf_counter()
        yield
        self._started += time.perf_counter() - began
