"""What a program says on stderr beside its result: notes, and details for those who ask for them.

A command line sets how much (`SPEECH`); a program that imports this package hears the notes.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from aalbert.common.redaction import redact
from aalbert.common.text import visible


@dataclass
class Speech:
    """How much this process says: `notes`, `details` of what it does, and its `progress`."""

    notes: bool = True
    details: bool = False
    progress: bool = True


SPEECH = Speech()


@contextmanager
def own_speech() -> Iterator[None]:
    """Have what a block says about how much is said end with it."""
    before = replace(SPEECH)
    try:
        yield
    finally:
        SPEECH.notes, SPEECH.details = before.notes, before.details
        SPEECH.progress = before.progress


def note(text: str) -> None:
    """Print what a user should know, above a progress bar if there is one."""
    if SPEECH.notes:
        say(text)


def warn(text: str) -> None:
    """Print what may make results other than they should be, to those who want quiet too."""
    say(f"warning: {text}")


def detail(text: str) -> None:
    """Print what only those want to know who asked for details."""
    if SPEECH.details:
        say(text)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print as a detail how long a block took."""
    started = time.perf_counter()
    yield
    detail(f"{what}: {time.perf_counter() - started:.2f} s")


def say(text: str) -> None:
    """Print a line on stderr, without secrets of URLs."""
    line = visible(redact(text), kept="\n")
    bars = sys.modules.get("tqdm.std")
    if bars is None or not sys.stderr.isatty():
        print(line, file=sys.stderr)
    else:
        bars.tqdm.write(line, file=sys.stderr)
