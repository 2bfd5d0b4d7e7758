"""Ending a run early when a signal asks for it, with its state saved."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.errors import InterruptedRunError
from aalbert.train.loop.ranks import Ranks

# Ctrl-C, what schedulers send before they kill or pre-empt, and a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StopOnSignal(Callback):
    """Ends training after the current step when a signal asks for it, with the state saved.

    It comes after the callbacks that measure, so that a resumed run lacks no measurement. A
    signal to one rank stops all of them after the same step.
    """

    def __init__(self, save: Callable[[Trainer], None], ranks: Ranks) -> None:
        self.save = save
        self.ranks = ranks
        self.received: int | None = None
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of the handlers that Lightning has just installed."""
        self.previous = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; the step in progress goes on. A second Ctrl-C ends it.

        Schedulers may send theirs several times, which must not cut the saving short.
        """
        self.received = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def requested(self) -> bool:
        """Return whether this process was told to stop."""
        return self.received is not None

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save and stop if there was a signal, after a whole step."""
        if not ended_step(trainer) or trainer.should_stop:
            return
        received = [number for number in self.ranks.gather(self.received) if number is not None]
        if received:
            self.received = received[0]
            self.save(trainer)
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


def ended_step(trainer: Trainer) -> bool:
    """Return whether the batch that was just trained on was the last one of its step."""
    batch = trainer.fit_loop.epoch_loop.batch_idx
    return (batch + 1) % trainer.accumulate_grad_batches == 0
