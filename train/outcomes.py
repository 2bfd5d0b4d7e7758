"""What a model said of every item of a split: all that figures about it are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.loading.order import Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Decisions:
    """Classes named for the utterances of a split, or for their frames; one entry an utterance.

    Of the `counted` items of an utterance (itself, or its frames) `right` were named as they
    should be; `confusion` counts items `(true class, named class)`. Where whole utterances are
    classified, `truth` and `named` are their classes and `top_5` says whether the true one was
    among the five best; they are None for frames.
    """

    names: Sequence[str]
    rows: Rows
    counted: NDArray[np.int64]
    right: NDArray[np.int64]
    confusion: NDArray[np.int64]
    truth: NDArray[np.int64] | None = None
    named: NDArray[np.int64] | None = None
    top_5: NDArray[np.bool_] | None = None

    @property
    def accuracy(self) -> float:
        """The share of items that were named right."""
        return float(self.right.sum() / self.counted.sum())

    def take(self, places: NDArray[np.int64]) -> "Decisions":
        """Return the decisions on the utterances at these places; the confusion stays whole."""
        return replace(
            self,
            rows=self.rows[places],
            counted=self.counted[places],
            right=self.right[places],
            truth=None if self.truth is None else self.truth[places],
            named=None if self.named is None else self.named[places],
            top_5=None if self.top_5 is None else self.top_5[places],
        )

    def in_row_order(self) -> "Decisions":
        """Return the decisions with rising rows, without utterances of which nothing counted.

        Runs may batch differently, and an utterance may have no labelled frame.
        """
        order = np.argsort(self.rows)
        return self.take(order[self.counted[order] > 0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """Pairs of utterances, whether one speaker says both, and how alike a model found them.

    `left` and `right` are rows of the dataset; a higher score is more alike.
    """

    left: Rows
    right: Rows
    same: NDArray[np.bool_]
    scores: NDArray[np.float64]


Outcome = Decisions | Trials
