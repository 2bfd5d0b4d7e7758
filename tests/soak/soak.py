"""Faults in a row, each of its own random numbers, until their number or their time is over."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from tests.soak.kinds import KINDS, Kind

# Puts one fault to the project and returns what came of it; raises where that may not come of it.
Fault = Callable[[Random], str]
# A kind that falls is not tried for ever.
MOST_FALLEN = 20


@dataclass(kw_only=True)
class Tally:
    """What came of the faults of one kind; `fallen` says of each which it was, and what came."""

    kind: Kind
    outcomes: Counter[str] = field(default_factory=Counter)
    fallen: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How long a soak is: `minutes` on each of `processes`, or a number of `faults` of each kind.

    With neither, each kind has its number of the quick suite.
    """

    seed: int = 0
    minutes: float | None = None
    faults: int | None = None
    processes: int = 1

    def seeds(self, kind: Kind) -> Iterator[int]:
        """The seeds of the faults of a kind, one after another as long as there is time."""
        if self.minutes is None:
            yield from range(self.seed, self.seed + (self.faults or kind.quick))
            return
        share = kind.share / sum(each.share for each in KINDS.values())
        end = time.monotonic() + 60 * self.minutes * self.processes * share
        for seed in count(self.seed):
            yield seed
            if time.monotonic() > end:
                return


@dataclass(frozen=True)
class Soak:
    """The soak of the running test; `note` gives its tally to the summary."""

    extent: Extent
    note: Callable[[Tally], None]

    def run(self, name: str, fault: Fault) -> None:
        """Put faults of a kind to the project, and fail with those that fell.

        A fault has fallen when something is raised, or when what came of it is none of the
        outcomes of its kind. The seed in the message repeats it: `--seed SEED --faults 1`.
        """
        kind = KINDS[name]
        tally = Tally(kind=kind)
        for seed in self.extent.seeds(kind):
            try:
                outcome = fault(Random(f"{kind.name} {seed}"))
                assert outcome in kind.outcomes, f"'{outcome}' may not come of it"
                tally.outcomes[outcome] += 1
            # Whatever is raised is what the soak looks for; the next fault may show more.
            except (Exception, pytest.fail.Exception) as error:
                notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
                tally.fallen.append(f"seed {seed}: {type(error).__name__}: {error}{notes}")
            if len(tally.fallen) == MOST_FALLEN:
                break
        self.note(tally)
        assert not tally.fallen, "\n".join([f"{kind.name}: {len(tally.fallen)}", *tally.fallen])
