"""An estimate of a pretraining run, from its settings, its data and ten timed steps."""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.common.text import duration
from aalbert.models.upstream import count_parameters
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.loop.loggers import require_installed
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.step_log import FrameCounts
from aalbert.train.loop.steps import ended_step
from aalbert.train.loop.throughput import FORWARD_AND_BACKWARD, Clock
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.pretraining.build import (
    PretrainSelections,
    frame_shift_ms,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining, build_pretraining
from aalbert.train.pretraining.start import Start

# The first steps allocate and compile; they are not timed.
WARM_UP_STEPS, TIMED_STEPS = 3, 10
# A weight, its gradient, and the two moments of AdamW, in float32.
STATE_BYTES_PER_PARAMETER = 4 * 4


@dataclass(frozen=True, kw_only=True)
class PretrainEstimate:
    """Exact sizes of a run; seconds and memory are of a few steps on one device of this machine."""

    parameters: int
    encoder_parameters: int
    steps: int
    epochs: float
    hours_in_an_epoch: float
    hours_seen: float
    seconds_per_step: float
    seconds: float
    device: str
    state_bytes: int
    peak_bytes: int

    def describe(self) -> str:
        """Return the estimate in words."""
        gib = 2**30
        return (
            f"{self.parameters:,} parameters, {self.encoder_parameters:,} of them in the encoder\n"
            f"{self.steps:,} steps are {self.epochs:,.2f} epochs of {self.hours_in_an_epoch:,.2f} "
            f"hours, {self.hours_seen:,.1f} hours of audio in all\n"
            f"about {duration(self.seconds)} on {self.device}, from {TIMED_STEPS} steps of "
            f"{self.seconds_per_step:.3f} s, validation included\n"
            f"{self.state_bytes / gib:.2f} GiB of weights, gradients and optimiser, "
            f"{self.peak_bytes / gib:.2f} GiB of memory at most; nothing was written"
        )


def estimate_pretraining(
    config: PretrainConfig, data: Sequence[Path | str], start: Start | None = None
) -> PretrainEstimate:
    """Estimate a run by one process without writing anything.

    Raises the errors that the run itself would raise at its start.
    """
    require_installed(config.loggers)
    selections = select_utterances(config, [Dataset(place) for place in data], start)
    module = build_pretraining(config, selections, start=start)
    ranks = Ranks()
    training, _ = make_loaders(config, selections, ranks)
    timed = time_steps(config, module, selections, ranks)
    seconds, device = timed.seconds, timed.device
    shift_ms = frame_shift_ms(config, selections)
    crop_frames = config.data.crop_seconds * 1000 / shift_ms
    hours, held_out_hours = (
        count_frames(part, config, crop_frames) * shift_ms / 3_600_000
        for part in (selections.training, selections.validation)
    )
    epoch_steps = training.epoch_ends(1)[0]
    epochs = config.steps / epoch_steps
    # A step is a forward and a backward pass over its audio; validation is a forward pass only.
    audio = hours / epoch_steps
    validation = held_out_hours / audio * seconds / FORWARD_AND_BACKWARD
    rounds = -(-config.steps // config.validate_every_steps)
    parameters = count_parameters(module.model)
    return PretrainEstimate(
        parameters=parameters,
        encoder_parameters=count_parameters(module.model.upstream),
        steps=config.steps,
        epochs=round(epochs, 6),
        hours_in_an_epoch=round(hours, 6),
        hours_seen=round(hours * epochs, 6),
        seconds_per_step=round(seconds, 5),
        seconds=round(config.steps * seconds + rounds * validation, 1),
        device=device_name(device),
        state_bytes=STATE_BYTES_PER_PARAMETER * parameters,
        peak_bytes=peak_memory(device),
    )


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """The means of several steps on a device: a step's seconds, those waited for data, its frames.

    `frames` and `padded_frames` are stored frames without and with padding, `squared_frames` the
    squared lengths of the utterances, summed.
    """

    seconds: float
    waited_s: float
    frames: float
    squared_frames: float
    padded_frames: float
    device: torch.device


class Stopwatch(Callback):
    """Times the steps after the first few, and counts their frames."""

    def __init__(self, loader: Loader, warm_up_steps: int) -> None:
        self.loader = loader
        self.warm_up_steps = warm_up_steps
        self.clock = Clock()
        self.counts = FrameCounts()
        self.seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Count the batch, and read the clock after the device has done its work."""
        self.counts.add(batch)
        ends = (self.warm_up_steps, trainer.max_steps)
        if not ended_step(trainer) or trainer.global_step not in ends:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.seconds = self.clock.seconds
        if trainer.global_step == self.warm_up_steps:
            self.counts = FrameCounts()
            self.loader.waited_s = 0.0
            self.clock.restart()


def time_steps(
    config: PretrainConfig,
    module: Pretraining,
    selections: PretrainSelections,
    ranks: Ranks,
    *,
    warm_up_steps: int = WARM_UP_STEPS,
    timed_steps: int = TIMED_STEPS,
) -> StepTimes:
    """Return the means of `timed_steps` steps, reading of data included."""
    steps = warm_up_steps + timed_steps
    training, _ = make_loaders(config, selections, ranks)
    watch = Stopwatch(training, warm_up_steps)
    trainer = make_trainer(
        Path(),
        [watch],
        ranks,
        max_steps=steps,
        accumulate_grad_batches=config.batches_per_step,
        precision=config.precision,
    )
    fit(trainer, module, Stream(training, steps * config.batches_per_step), None)
    training.close()
    counts = watch.counts
    return StepTimes(
        seconds=watch.seconds / timed_steps,
        waited_s=training.waited_s / timed_steps,
        frames=counts.real_frames / timed_steps,
        squared_frames=counts.squared_frames / timed_steps,
        padded_frames=counts.padded_frames / timed_steps,
        device=trainer.strategy.root_device,
    )


def count_frames(
    selections: Sequence[Selection], config: PretrainConfig, crop_frames: float
) -> float:
    """Return the frames of an epoch after cropping."""
    feature = config.data.feature
    return sum(
        part.weight * float(part.dataset.frames(feature)[part.rows].clip(max=crop_frames).sum())
        for part in selections
    )


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the number of threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads != 1)}"


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far, of the GPU or of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
