"""Counts of items by their true and their predicted class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Confusion:
    """The numbers of items of pairs `(true class, predicted class)`, in rising order of pairs.

    Only pairs that occur are kept, so that memory grows with the items and not with the square
    of the number of classes: thousands of speakers have tens of millions of pairs. Of sequences,
    `deleted` and `inserted` are the items of every class that are in no pair, since they have no
    counterpart: those that were not predicted, and those that are in no true sequence.
    """

    classes: int
    true: Counts
    predicted: Counts
    items: Counts
    deleted: Counts | None = None
    inserted: Counts | None = None

    def totals(self) -> Counts:
        """Return the number of items of every class, deleted ones included."""
        paired = sum_by(self.true, self.items, self.classes)
        return paired if self.deleted is None else paired + self.deleted

    def correct(self) -> Counts:
        """Return the number of items of every class that were predicted as it."""
        right = self.true == self.predicted
        return sum_by(self.true[right], self.items[right], self.classes)

    def errors(self) -> "Confusion":
        """Return the pairs of different classes, most items first."""
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.items[wrong], kind="stable")]
        return Confusion(self.classes, self.true[order], self.predicted[order], self.items[order])

    def commonest_errors(self) -> Counts:
        """Return the class that each class is most often mistaken for, or -1."""
        errors = self.errors()
        true, first = np.unique(errors.true, return_index=True)
        found = np.full(self.classes, -1, np.int64)
        found[true] = errors.predicted[first]
        return found

    def beyond(self, chosen: Counts) -> Counts:
        """Return how many items of each of some classes were predicted as one of the others."""
        outside = ~np.isin(self.predicted, chosen)
        return sum_by(self.true[outside], self.items[outside], self.classes)[chosen]

    def among(self, chosen: Counts) -> Counts:
        """Return the matrix `(chosen, chosen)` of some classes, given in rising order."""
        inside = np.isin(self.true, chosen) & np.isin(self.predicted, chosen)
        matrix = np.zeros((len(chosen), len(chosen)), np.int64)
        rows, columns = self.true[inside], self.predicted[inside]
        matrix[np.searchsorted(chosen, rows), np.searchsorted(chosen, columns)] = self.items[inside]
        return matrix


def count_pairs(true: Counts, predicted: Counts, classes: int) -> Confusion:
    """Count items by their classes `(items,)`."""
    return count(true * classes + predicted, np.ones_like(true), classes)


def add_up(parts: Sequence[Confusion], classes: int) -> Confusion:
    """Return the counts of several parts together."""
    codes = [part.true * classes + part.predicted for part in parts]
    return count(np.concatenate(codes), np.concatenate([part.items for part in parts]), classes)


def count(codes: Counts, items: Counts, classes: int) -> Confusion:
    """Return the sums of `items` by `codes`, which are `true * classes + predicted`."""
    unique, place = np.unique(codes, return_inverse=True)
    return Confusion(
        classes, unique // classes, unique % classes, sum_by(place, items, len(unique))
    )


def sum_by(numbers: Counts, items: Counts, size: int) -> Counts:
    """Return the sum of `items` of each number below `size`."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, numbers, items)
    return sums
