"""The fewest edits that make one sequence of another: substitutions, deletions and insertions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Edits:
    """The pairs `(reference, hypothesis)` of an alignment with the fewest edits, in their order.

    An item that was deleted has no counterpart in the hypothesis (None), one that was inserted
    none in the reference.
    """

    pairs: tuple[tuple[int | None, int | None], ...]

    @property
    def substitutions(self) -> int:
        """The number of items that became others."""
        return sum(one is not None and two is not None and one != two for one, two in self.pairs)

    @property
    def deletions(self) -> int:
        """The number of items that are missing."""
        return sum(two is None for _, two in self.pairs)

    @property
    def insertions(self) -> int:
        """The number of items that were added."""
        return sum(one is None for one, _ in self.pairs)


def align(reference: Sequence[int], hypothesis: Sequence[int]) -> Edits:
    """Return an alignment with the fewest edits (Wagner and Fischer 1974).

    Of several it is the one that, from the end on, prefers pairs to deletions and these to
    insertions.
    """
    costs = cost_matrix(reference, hypothesis)
    row, column = len(reference), len(hypothesis)
    pairs: list[tuple[int | None, int | None]] = []
    while row or column:
        cost = costs[row, column]
        if row and column:
            differs = reference[row - 1] != hypothesis[column - 1]
            if costs[row - 1, column - 1] + differs == cost:
                row, column = row - 1, column - 1
                pairs.append((reference[row], hypothesis[column]))
                continue
        if row and costs[row - 1, column] + 1 == cost:
            row -= 1
            pairs.append((reference[row], None))
        else:
            column -= 1
            pairs.append((None, hypothesis[column]))
    return Edits(tuple(reversed(pairs)))


def cost_matrix(reference: Sequence[int], hypothesis: Sequence[int]) -> NDArray[np.int64]:
    """Return the fewest edits between the first `n` items and the first `m`, at `[n, m]`."""
    places = np.arange(len(hypothesis) + 1)
    costs = np.empty((len(reference) + 1, len(places)), np.int64)
    costs[0] = places
    second = np.asarray(hypothesis, np.int64)
    for row, item in enumerate(reference, start=1):
        before = costs[row - 1]
        best = before + 1
        best[1:] = np.minimum(best[1:], before[:-1] + (second != item))
        # Insertions go from left to right: the least of `best[k] + (m - k)` over all `k <= m`.
        costs[row] = np.minimum.accumulate(best - places) + places
    return costs
