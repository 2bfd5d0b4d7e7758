"""Progress bars, on stderr, so that stdout carries results alone."""

import sys
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    # The class takes a parameter for type checkers only.
    from typing import TypeAlias

    WorkBar: TypeAlias = tqdm[NoReturn]
else:
    WorkBar = tqdm

# A terminal is redrawn often; a log file gets a line now and then.
TERMINAL_SECONDS, LOG_SECONDS = 0.2, 30.0


def progress_bar(description: str, *, total: int, unit: str, done: int = 0) -> WorkBar:
    """Return a bar that shows what is done, the rate, and the time to go."""
    return tqdm(
        desc=description,
        total=total,
        initial=done,
        unit=unit,
        file=sys.stderr,
        mininterval=TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS,
        dynamic_ncols=True,
    )
