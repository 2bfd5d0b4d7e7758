"""The log of the training steps: loss, learning rate and speed."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from aalbert.common.progress import progress_bar
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.loader import Loader
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.recorders import Recorder
from aalbert.train.loop.steps import ended_step, every
from aalbert.train.loop.throughput import Clock, ModelFlops, peak_flops

STEP_COLUMNS = (
    "train_loss",
    "learning_rate",
    "x_real_time",
    "frames_per_second",
    "mfu",
    "padding_efficiency",
    "data_wait",
    "gpu_memory_gib",
)


@dataclass(frozen=True)
class LogSettings:
    """The settings of the log: the text on the bar, all steps, and how to compute the speed.

    Without `flops` the share of the device's peak (MFU) is left out. Without `padding` the share
    of real frames is left out: batches of cached hidden states may hold averages, whose frames are
    not those of the audio.
    """

    description: str
    steps: int
    every_steps: int
    frame_shift_ms: float
    flops: ModelFlops | None = None
    precision: str = "32-true"
    padding: bool = True


@dataclass
class FrameCounts:
    """The frames trained on since the last record; counted on the host, without the device."""

    real_frames: int = 0
    squared_frames: int = 0
    padded_frames: int = 0

    def add(self, batch: Batch) -> None:
        """Add the frames of a batch."""
        self.real_frames += batch.real_frames
        self.squared_frames += batch.squared_frames
        self.padded_frames += batch.features.shape[:-1].numel()


class StepLog(Callback):
    """Shows a bar on stderr with the loss and the speed, and records both at intervals.

    Reading the loss waits for the device, so it is read every `every_steps` and after the last one
    only. Speed, MFU and waiting are averages over the time spent on steps since the last record;
    frames are real frames, of all ranks together.
    """

    def __init__(
        self,
        settings: LogSettings,
        metrics: Recorder,
        loader: Loader,
        clock: Clock,
        ranks: Ranks,
    ) -> None:
        self.settings = settings
        self.due = every(settings.every_steps, last=settings.steps)
        self.metrics = metrics
        self.loader = loader
        self.clock = clock
        self.ranks = ranks
        self.exit_stack = ExitStack()
        self.counts = FrameCounts()
        self.loss: Tensor | None = None
        self.learning_rate = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and the bar at the step from which training starts or continues."""
        self.restart()
        if self.ranks.first:
            bar = progress_bar(
                self.settings.description,
                total=self.settings.steps,
                unit="step",
                done=trainer.global_step,
            )
            self.bar = self.exit_stack.enter_context(bar)

    def restart(self) -> None:
        """Set the counts, the time waited and the clock to 0."""
        self.counts = FrameCounts()
        self.loader.waited_s = 0.0
        self.clock.restart()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Note the learning rate of this step; the scheduler sets the next one before its end."""
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Count the batch; after a step advance the bar, and record if it is due."""
        self.counts.add(batch)
        # Lightning divides the loss of a batch by the number of batches in a step.
        self.loss = outputs["loss"] if self.loss is None else self.loss + outputs["loss"]
        if not ended_step(trainer):
            return
        if self.due(trainer.global_step):
            self.record(trainer.global_step, float(self.loss), pl_module.device)
            self.restart()
        self.loss = None
        if self.ranks.first:
            self.bar.update(1)

    def record(self, step: int, loss: float, device: torch.device) -> None:
        """Show and write the loss and the speed."""
        seconds, peak = self.clock.seconds, peak_flops(device, self.settings.precision)
        counts = self.counts
        loss, frames, squared, padded = self.ranks.total(
            loss, counts.real_frames, counts.squared_frames, counts.padded_frames
        )
        loss /= self.ranks.size
        row: dict[str, Any] = {"step": step, "learning_rate": self.learning_rate}
        if torch.tensor(loss).isfinite():
            row["train_loss"] = loss
        speed = frames * self.settings.frame_shift_ms / 1000 / seconds
        row |= {
            "x_real_time": round(speed, 1),
            "frames_per_second": round(frames / seconds),
            "data_wait": round(self.loader.waited_s / seconds, 4),
        }
        if self.settings.padding:
            row["padding_efficiency"] = round(frames / max(1, padded), 4)
        if peak is not None and self.settings.flops is not None:
            work = self.settings.flops.count(frames, squared)
            row["mfu"] = round(work / seconds / peak / self.ranks.size, 4)
        if device.type == "cuda":
            row["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
        self.metrics.write(**row)
        if self.ranks.first:
            shown = f"loss {loss:.4f}, {speed:,.0f} x real time"
            self.bar.set_postfix_str(shown, refresh=False)

    def on_exception(self, trainer: Trainer, *_: Any) -> None:
        """Close the bar, so that the error has a line of its own."""
        self.exit_stack.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar if there is one."""
        self.exit_stack.close()
