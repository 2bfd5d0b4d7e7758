"""Progress on stderr, so that stdout carries only results: a bar, or lines in a log file."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar

from tqdm.auto import tqdm

from aalbert.common.notes import SPEECH
from aalbert.common.text import duration, human_bytes

if TYPE_CHECKING:
    # The class takes a parameter for type checkers only.
    from typing import TypeAlias

    Tqdm: TypeAlias = tqdm[NoReturn]
else:
    Tqdm = tqdm

Item = TypeVar("Item")
# Seconds between updates: of a bar, and of lines in a log file, which keeps all of them.
BAR_SECONDS, LINE_SECONDS = 0.2, 30.0
# Of work that a user waits for at the terminal, with one recording or thousands.
SHORT_WAIT_S = 2.0
# Work that ends within this time needs no time of day.
SOON_S = 600
BAR = "{desc}: {percentage:3.0f}%|{bar}| {amount}{postfix}"
# It stands for all bytes; others are counted one by one.
BYTES = "B"


class Progress(AbstractContextManager["Progress"], Protocol):
    """What is shown of work under way, until it is closed."""

    @property
    def elapsed_s(self) -> float:
        """The seconds since the work began."""

    def update(self, count: int = 1, /) -> object:
        """Add so much done."""

    def reach(self, done: int) -> object:
        """Set how much is done in all; work that is done again may go back."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Show a text at the end."""

    def close(self) -> None:
        """Show the last state."""


def progress_bar(
    description: str, *, total: int, unit: str, done: int = 0, delay_s: float = 0.0
) -> Progress:
    """Return what shows the amount done, the speed, the remaining time and the time of the end.

    On a terminal and in a notebook it is a bar; elsewhere it is a line every 30 seconds, and one at
    the end. It is not shown for what takes less than `delay_s`, or when
    nobody wants progress. `unit` is "B" for bytes, or the name of one of what is counted.
    """
    in_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    if not SPEECH.progress:
        return Lines(description, total, unit, done, delay_s=math.inf)
    if sys.stderr.isatty() or in_notebook:
        return Bar(
            desc=description,
            total=total,
            initial=done,
            unit=unit,
            file=sys.stderr,
            mininterval=BAR_SECONDS,
            dynamic_ncols=True,
            delay=delay_s,
            bar_format=BAR,
        )
    return Lines(description, total, unit, done, delay_s)


def shown(
    items: Iterable[Item],
    description: str,
    *,
    total: int,
    unit: str,
    count: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield items and show the progress, if that takes a user's time; each counts for `count`."""
    with progress_bar(description, total=total, unit=unit, delay_s=SHORT_WAIT_S) as bar:
        for item in items:
            yield item
            bar.update(count(item))


class Bar(Tqdm):
    """A bar of tqdm with the amounts in the words of this module."""

    @property
    def elapsed_s(self) -> float:
        """The seconds since the bar was made."""
        return time.time() - self.start_t

    def reach(self, done: int) -> None:
        """Set how much is done in all."""
        self.update(done - self.n)

    @property
    def format_dict(self) -> dict[str, Any]:
        """The fields of the bar."""
        fields = super().format_dict
        done, total, begun = int(self.n), int(self.total or 0), int(self.initial)
        amount = describe_amount(done, total, begun, self.unit, fields["elapsed"])
        return {**fields, "amount": amount}


class Lines:
    """Progress as lines of their own, none before `delay_s` are over."""

    def __init__(self, description: str, total: int, unit: str, done: int, delay_s: float) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.begun = done
        self.started = time.monotonic()
        self.delay_s = delay_s
        self.text = ""
        self.closed = False
        self.shown_at = self.started

    def update(self, count: int = 1, /) -> None:
        """Add so much done."""
        self.done += count
        if time.monotonic() - self.shown_at >= LINE_SECONDS and self.done < self.total:
            self.show()

    @property
    def elapsed_s(self) -> float:
        """The seconds since the work began."""
        return time.monotonic() - self.started

    def reach(self, done: int) -> None:
        """Set how much is done in all."""
        self.update(done - self.done)

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Show a text at the end of the lines that follow."""
        self.text = f", {text}" if text else ""

    def show(self) -> None:
        """Write a line, of work that takes long enough to be shown."""
        if self.elapsed_s < self.delay_s:
            return
        self.shown_at = time.monotonic()
        amount = describe_amount(self.done, self.total, self.begun, self.unit, self.elapsed_s)
        share = f"{self.done / self.total:.0%}, " if 0 < self.done < self.total else ""
        print(f"{self.description}: {share}{amount}{self.text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Write the last line."""
        if not self.closed:
            self.show()
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def describe_amount(done: int, total: int, begun: int, unit: str, elapsed_s: float) -> str:
    """Return how much is done of all, how fast, and how long it takes yet; or took, at the end.

    `begun` was done before; the speed is of what was done in `elapsed_s`.
    """
    counted = human_bytes if unit == BYTES else "{:,}".format
    ending = "" if unit == BYTES else f" {unit}" if total == 1 else f" {unit}s"
    speed = (done - begun) / elapsed_s if elapsed_s > 0 else 0.0
    if done >= total:
        own = f", {counted(done - begun)} of them" if begun else ""
        return f"{counted(total)}{ending}{own} in {duration(elapsed_s)}"
    words = f"{counted(done)} of {counted(total)}{ending}"
    if not speed:
        return words
    left_s = (total - done) / speed
    per = f"{human_bytes(round(speed))}/s" if unit == BYTES else describe_speed(speed, unit)
    return f"{words}, {per}, {duration(left_s)} left{end_of(left_s)}"


def describe_speed(speed: float, unit: str) -> str:
    """Return how many are done in a second, or the seconds that one takes."""
    if speed < 1:
        return f"{1 / speed:.1f} s per {unit}"
    return f"{speed:,.0f}/s" if speed >= 100 else f"{speed:.1f}/s"


def end_of(left_s: float) -> str:
    """Return the time of day at which work ends, if that is not soon; with the day, if later."""
    if left_s < SOON_S:
        return ""
    now = datetime.now()
    try:
        end = now + timedelta(seconds=left_s)
    except OverflowError:
        return ""
    return f", until {end:%H:%M}" if end.date() == now.date() else f", until {end:%a %d %b %H:%M}"
