"""Signals that end a `prepare`: it cleans up, and prints how to continue."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from aalbert.errors import InterruptedRunError

# Sent by Ctrl-C, schedulers and closing terminals.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest(BaseException):
    """A signal that asks this process to end; not an `Exception`, so that nothing retries it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Unwind the block on SIGTERM and SIGHUP as on Ctrl-C, so that it releases locks and files.

    Then raises `InterruptedRunError`. A signal that was ignored, as by `nohup`, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS[1:]}
    try:
        for number, handler in before.items():
            if handler == signal.SIG_DFL:
                signal.signal(number, request_stop)
        yield
    except (StopRequest, KeyboardInterrupt) as error:
        sent = signal.Signals(error.number) if isinstance(error, StopRequest) else signal.SIGINT
        raise InterruptedRunError(
            f"stopped by {sent.name}: run the same command again, finished work is kept",
            sent,
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def request_stop(number: int, _: FrameType | None) -> None:
    """Raise `StopRequest`, and ignore the signal afterwards so that it cannot stop the cleanup."""
    signal.signal(number, signal.SIG_IGN)
    raise StopRequest(number)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Defer stop signals until the block ends; processes that it starts have them blocked.

    Python handles signals in the main thread, but any thread may receive them, so blocking
    them in this thread alone does not defer them.
    """
    deferred: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        for number, handler in handlers.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, lambda number, _: deferred.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each in dict.fromkeys(deferred):
            signal.raise_signal(each)


def leave_signals_to_the_parent() -> None:
    """Ignore stop signals in a worker that was started with them blocked."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
