"""The seconds and the memory that a few steps take, from which a run is estimated."""

import resource
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.common.progress import SHORT_WAIT_S, progress_bar
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.train.loop.config import Precision
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.step_log import FrameCounts
from aalbert.train.loop.steps import ended_step
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.trainer import fit, make_trainer

# The first steps allocate and compile; they are not timed.
WARM_UP_STEPS, TIMED_STEPS = 3, 10
# A weight, its gradient, and the two moments of AdamW, in float32.
STATE_BYTES_PER_PARAMETER = 4 * 4


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
        self.exit_stack = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the progress."""
        bar = progress_bar("try", total=trainer.max_steps, unit="step", delay_s=SHORT_WAIT_S)
        self.bar = self.exit_stack.enter_context(bar)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show no more progress."""
        self.exit_stack.close()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Count the batch, and read the clock after the device has done its work."""
        self.counts.add(batch)
        if ended_step(trainer):
            self.bar.update(1)
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
    module: LightningModule,
    loader: Loader,
    precision: Precision,
    *,
    warm_up_steps: int = WARM_UP_STEPS,
    timed_steps: int = TIMED_STEPS,
) -> StepTimes:
    """Return the means of `timed_steps` steps of one process, reading of data included."""
    steps, batches = warm_up_steps + timed_steps, len(loader.own)
    watch = Stopwatch(loader, warm_up_steps)
    trainer = make_trainer(
        Path(),
        [watch],
        Ranks(),
        max_steps=steps,
        accumulate_grad_batches=batches,
        precision=precision,
    )
    fit(trainer, module, Stream(loader, steps * batches), None)
    loader.close()
    counts = watch.counts
    return StepTimes(
        seconds=watch.seconds / timed_steps,
        waited_s=loader.waited_s / timed_steps,
        frames=counts.real_frames / timed_steps,
        squared_frames=counts.squared_frames / timed_steps,
        padded_frames=counts.padded_frames / timed_steps,
        device=trainer.strategy.root_device,
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
