"""Stopping a run early on a signal, with its state saved."""

import signal
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.common.signals import SAVE_SIGNALS, say_it_stops
from aalbert.errors import InterruptedRunError
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.steps import ended_step


class SignalListener:
    """Notes the stop signal that this process received: `received` is its number, or None."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> None:
        """Replace the handlers of the signals; one that is ignored, as by `nohup`, stays so."""
        for number in SAVE_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; the current step is completed, unless a second Ctrl-C ends it.

        Schedulers may send other signals several times, which must not interrupt the saving.
        """
        if self.received is None:
            say_it_stops(number, "this step")
        self.received = number
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


class StopOnSignal(Callback):
    """Stops training after the current step when a signal was received, with the state saved.

    It comes after the callbacks that measure, so that no measurement is missing from a resumed
    run. A signal to one rank stops all of them after the same step.
    """

    def __init__(self, listener: SignalListener, saver: SaveStates, ranks: Ranks) -> None:
        self.listener = listener
        self.saver = saver
        self.ranks = ranks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, after Lightning has installed its own handlers.

        When training ends, Lightning restores the handlers of all signals from before it began.
        """
        self.listener.listen()

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save and stop after a whole step if any rank received a signal."""
        if not ended_step(trainer) or trainer.should_stop:
            return
        received = [
            number for number in self.ranks.gather(self.listener.received) if number is not None
        ]
        if received:
            self.listener.received = received[0]
            self.saver.save(trainer)
            trainer.should_stop = True


def raise_if_stopped(trainer: Trainer, listener: SignalListener, command: str) -> None:
    """Raise `InterruptedRunError` with the command that continues, if a signal stopped training.

    One that came after the last step is handled as all are that come after training.
    """
    if listener.received is not None:
        if not trainer.should_stop:
            signal.raise_signal(listener.received)
            return
        raise InterruptedRunError(
            f"stopped by {signal.Signals(listener.received).name}, saved at step "
            f"{trainer.global_step}; continue with: {command}",
            listener.received,
        )
