"""What happens around the training steps: progress, measurements, checkpoints, signals."""

import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.errors import DivergedError, InterruptedRunError
from aalbert.progress import progress_bar
from aalbert.shards.batch import Batch
from aalbert.shards.loader import Loader
from aalbert.train.checkpoints import save_state
from aalbert.train.metrics import MetricsWriter

# Ctrl-C, what schedulers send before they kill, and a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Measurement = dict[str, float]
Due = Callable[[int], bool]


class Progress(Callback):
    """A bar on stderr with the loss, the speed in times real time, and the time to go.

    Reading the loss waits for the device, so it is read every `every_steps` only, and
    recorded as `train_loss` with the learning rate, the speed, and the share of the time since the
    last record that was spent waiting for data.
    """

    def __init__(
        self,
        metrics: MetricsWriter,
        description: str,
        steps: int,
        every_steps: int,
        frame_shift_ms: float,
        loader: Loader,
    ) -> None:
        self.metrics = metrics
        self.every_steps = every_steps
        self.description = description
        self.steps = steps
        self.open = ExitStack()
        self.seconds_per_frame = frame_shift_ms / 1000
        self.loader = loader
        self.recorded = 0.0
        self.audio_seconds = 0.0
        self.started = 0.0
        self.learning_rate = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and the bar from the step at which training begins here."""
        self.loader.waited_s = 0.0
        self.started = self.recorded = time.monotonic()
        self.bar = self.open.enter_context(
            progress_bar(self.description, total=self.steps, unit="step", done=trainer.global_step)
        )

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Note the learning rate of this step; the scheduler sets the next one before its end."""
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Advance the bar, and now and then record where training is."""
        self.audio_seconds += batch.real_frames * self.seconds_per_frame
        if trainer.global_step % self.every_steps == 0:
            self.record(trainer, float(outputs["loss"]))
        self.bar.update(1)

    def record(self, trainer: Trainer, loss: float) -> None:
        """Show and write the loss and the speed; `DivergedError` when the loss is not finite."""
        require_finite(loss, trainer.global_step)
        now = time.monotonic()
        speed = self.audio_seconds / max(1e-9, now - self.started)
        waited = self.loader.waited_s / max(1e-9, now - self.recorded)
        self.recorded, self.loader.waited_s = now, 0.0
        self.bar.set_postfix_str(f"loss {loss:.4f}, {speed:,.0f} x real time", refresh=False)
        self.metrics.write(
            step=trainer.global_step,
            train_loss=loss,
            learning_rate=self.learning_rate,
            x_real_time=round(speed, 1),
            data_wait=round(waited, 4),
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar, if it was opened."""
        self.open.close()


def require_finite(value: float, step: int) -> None:
    """Raise `DivergedError` when a measured value is NaN or infinite."""
    if not math.isfinite(value):
        raise DivergedError(
            f"the loss is {value} at step {step}: the last good checkpoint is kept; start again "
            "with a lower optimiser.learning_rate"
        )


def every(count: int, *, last: int) -> Due:
    """Return whether a step is a multiple of `count` or the last one."""
    return lambda step: step % count == 0 or step == last


class Validation(Callback):
    """Measures and records after the steps that are due.

    Lightning's own validation loop belongs to its notion of an epoch, which a run that
    counts steps and resumes anywhere does not have.
    """

    def __init__(
        self, metrics: MetricsWriter, measure: Callable[[], Measurement], due: Due
    ) -> None:
        self.metrics = metrics
        self.measure = measure
        self.due = due

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure when it is time to."""
        if self.due(trainer.global_step):
            pl_module.eval()
            measured = self.measure()
            for value in measured.values():
                require_finite(value, trainer.global_step)
            self.metrics.write(step=trainer.global_step, **measured)
            pl_module.train()


class SaveStates(Callback):
    """Saves the state of training after the steps that are due."""

    def __init__(self, folder: Path, due: Due, keep: int) -> None:
        self.folder = folder
        self.due = due
        self.keep = keep

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save when it is time to."""
        if self.due(trainer.global_step):
            save_state(trainer, self.folder, self.keep)


class StopOnSignal(Callback):
    """Ends training after the current step when a signal asks for it, with the state saved.

    It comes after the callbacks that measure, so that a resumed run lacks no measurement.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self.received: int | None = None
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of the handlers that Lightning has just installed."""
        self.previous = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; the step in progress goes on, and a second signal ends it."""
        self.received = number
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save and stop if there was a signal."""
        if self.received is not None and not trainer.should_stop:
            save_state(trainer, self.folder, self.keep)
            trainer.should_stop = True

    def raise_if_stopped(self, trainer: Trainer, command: str) -> None:
        """Raise `InterruptedRunError` with the command that continues, if training stopped."""
        if self.received is not None and trainer.should_stop:
            raise InterruptedRunError(
                f"stopped by {signal.Signals(self.received).name}, saved at step "
                f"{trainer.global_step}; continue with: {command}",
                self.received,
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
