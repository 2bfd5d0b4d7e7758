"""What a model said of every item of a split: all that figures about it are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.order import Rows


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
