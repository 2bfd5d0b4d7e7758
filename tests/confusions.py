"""Confusions from whole matrices, for tests."""

import numpy as np
from numpy.typing import ArrayLike

from aalbert.train.downstream.confusion import Confusion


def confusion_of(matrix: ArrayLike) -> Confusion:
    """Return the counts of a matrix `(true, predicted)`."""
    counts = np.array(matrix, np.int64)
    true, predicted = np.nonzero(counts)
    return Confusion(len(counts), true, predicted, counts[true, predicted])
