"""Signals that ask this process to end, handled in one way for all work.

A handler raises no exception: it may run inside a callback of other libraries, where exceptions are
swallowed, and the signal would be lost. It ends the process, except during `stoppable` work, for
which it notes the signal; the work calls `stop_if_asked` between its steps.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_byte
from dataclasses import dataclass
from types import FrameType

from aalbert.errors import InterruptedRunError

# Sent by Ctrl-C, schedulers and closing terminals.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Schedulers send SIGUSR1 some time before they end a job; training saves its state on it.
SAVE_SIGNALS = (*STOP_SIGNALS, signal.SIGUSR1)
# Handlers in whose place others may be put: those that no caller of this package has chosen.
UNTOUCHED = (signal.SIG_DFL, signal.default_int_handler)
POLL_S = 0.1


class StopRequest(BaseException):
    """Unwinds stoppable work; not an `Exception`, so that nothing retries it."""


@dataclass
class Work:
    """What this process does about signals, which a handler can only find in one place.

    `received` is the number of the signal that stoppable work is asked to end by. In a worker,
    `asked` is memory that it shares with its parent, who sets it to another value than 0.
    """

    stoppable: bool = False
    received: int | None = None
    asked: c_byte | None = None


WORK = Work()


@contextmanager
def handle_stop_signals(end: Callable[[int], None]) -> Iterator[None]:
    """Note stop signals during stoppable work, and call `end`, which does not return, otherwise.

    A second signal has the system's default action, which ends the process at once. One that was
    ignored, as by `nohup`, stays ignored.
    """

    def handle(number: int, _: FrameType | None) -> None:
        for each in before:
            let_end(each)
        if WORK.stoppable:
            say_it_stops(number, "what is under way")
            WORK.received = number
        else:
            end(number)

    handlers = {}
    # Only the main thread can handle signals.
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    before = {number: old for number, old in handlers.items() if old in UNTOUCHED}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def say_it_stops(number: int, after: str) -> None:
    """Say at once that a signal has come; the line goes past Python's stream, which may be busy."""
    # A progress bar leaves the cursor in its line.
    begin, name = "\n" * os.isatty(2), signal.Signals(number).name
    line = f"{begin}stopping after {after} ({name}); Ctrl-C ends it at once\n"
    with suppress(OSError):  # the terminal may be gone
        os.write(2, line.encode())


def let_end(number: int) -> None:
    """Have a signal end the process from now on, even one that is busy in foreign code."""
    # It may be waiting already: then Python has to find something that handles it.
    signal.signal(number, end_by_default)
    ctypes.CDLL(None).signal(int(number), int(signal.SIG_DFL))


def end_by_default(number: int, _: FrameType | None) -> None:
    """Have a signal's default action, which ends the process."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Have the block, which calls `stop_if_asked` often, end in its own way on a stop signal.

    It unwinds from there, so that it releases locks and removes temporary files; then
    `InterruptedRunError` is raised, also when the signal came too late for the block to notice.
    """
    WORK.stoppable = True
    try:
        with suppress(StopRequest):
            yield
    finally:
        # In this order: a signal that is not noted any more ends the process.
        WORK.stoppable = False
        number, WORK.received = WORK.received, None
    if number is not None:
        name = signal.Signals(number).name
        raise InterruptedRunError(
            f"stopped by {name}: run the same command again, finished work is kept", number
        )


def is_asked() -> bool:
    """Return whether a signal asks stoppable work to end, or the parent of a worker does."""
    return WORK.received is not None or (WORK.asked is not None and WORK.asked.value != 0)


def stop_if_asked() -> None:
    """Raise `StopRequest` if the work is asked to end; other threads are left to the main one."""
    if is_asked() and threading.current_thread() is threading.main_thread():
        raise StopRequest


def pause(seconds: float) -> None:
    """Sleep for so long, or until the work is asked to end; see `stop_if_asked`."""
    deadline = time.monotonic() + seconds
    while not is_asked() and (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL_S, left_s))
    stop_if_asked()


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Defer signals until the block ends; processes that it starts have them blocked.

    Python handles signals in the main thread, but any thread may receive them, so blocking
    them in this thread alone does not defer them.
    """
    deferred: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in SAVE_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SAVE_SIGNALS)
    try:
        for number, handler in handlers.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, lambda number, _: deferred.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if handler is end_by_default:
                let_end(number)
            else:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each in dict.fromkeys(deferred):
            signal.raise_signal(each)


def leave_signals_to_the_parent(asked: c_byte | None = None) -> None:
    """Ignore signals in a worker that was started with them blocked, and heed `asked`.

    The terminal, and some schedulers, send them to a worker too.
    """
    WORK.asked = asked
    for number in SAVE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SAVE_SIGNALS)
