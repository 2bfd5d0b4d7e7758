"""Progress bars, on stderr, so that stdout carries only results."""

import sys
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    # The class takes a parameter for type checkers only.
    from typing import TypeAlias

    ProgressBar: TypeAlias = tqdm[NoReturn]
else:
    ProgressBar = tqdm

# Seconds between updates: few for a terminal, more for a log file, which gets a line each.
TERMINAL_SECONDS, LOG_SECONDS = 0.2, 30.0
# Of work that a user waits for at the terminal, with one recording or thousands.
SHORT_WAIT_S = 2.0


def progress_bar(
    description: str, *, total: int, unit: str, done: int = 0, delay_s: float = 0.0
) -> ProgressBar:
    """Return a bar that shows the amount done, the rate and the remaining time.

    It is not shown for what takes less than `delay_s`.
    """
    return tqdm(
        desc=description,
        total=total,
        initial=done,
        unit=unit,
        file=sys.stderr,
        mininterval=TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS,
        dynamic_ncols=True,
        delay=delay_s,
    )
