"""Ending a run early when a signal asks for it, with its state saved."""

import signal
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.errors import InterruptedRunError
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.steps import ended_step

# Ctrl-C, what schedulers send before they kill or pre-empt, and a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class SignalListener:
    """Whether this process was told to stop, and by which signal (`received`)."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None

    def listen(self) -> None:
        """Take the signals, in place of the handlers there are."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; the step in progress goes on. A second Ctrl-C ends it.

        Schedulers may send theirs several times, which must not cut the saving short.
        """
        self.received = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class StopOnSignal(Callback):
    """Ends training after the current step when a signal asks for it, with the state saved.

    It comes after the callbacks that measure, so that a resumed run lacks no measurement. A
    signal to one rank stops all of them after the same step.
    """

    def __init__(self, request: SignalListener, saver: SaveStates, ranks: Ranks) -> None:
        self.request = request
        self.saver = saver
        self.ranks = ranks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of the handlers that Lightning has just installed.

        When the trainer ends, Lightning puts back those of before it, of all signals.
        """
        self.request.listen()

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save and stop if there was a signal, after a whole step."""
        if not ended_step(trainer) or trainer.should_stop:
            return
        received = [
            number for number in self.ranks.gather(self.request.received) if number is not None
        ]
        if received:
            self.request.received = received[0]
            self.saver.save(trainer)
            trainer.should_stop = True


def raise_if_stopped(trainer: Trainer, request: SignalListener, command: str) -> None:
    """Raise `InterruptedRunError` with the command that continues, if training stopped."""
    if request.received is not None and trainer.should_stop:
        raise InterruptedRunError(
            f"stopped by {signal.Signals(request.received).name}, saved at step "
            f"{trainer.global_step}; continue with: {command}",
            request.received,
        )
