"""The utterances that the test part lacks, since there is nothing to measure them by."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DRAWN, SplitConfig


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """How many of the `utterances` of a split are left out, by reason.

    The split is the one that is tested on or, if `drawn`, that the test part is drawn from.
    """

    split: str
    utterances: int
    drawn: bool = False
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of utterances that are left out; there is one reason for each."""
        return sum(self.reasons.values())

    @property
    def place(self) -> str:
        """What they are left out of, in words."""
        return f"'{self.split}'" + ", of which the test part is drawn," * self.drawn

    def describe(self, metric: str) -> str:
        """Return in words what a metric is not measured on; "" for nothing."""
        if not self.total:
            return ""
        reasons = ", ".join(f"{why}: {count:,}" for why, count in self.reasons.items() if count)
        others = "" if self.drawn else f": {metric} is that of the others"
        return (
            f"{self.total:,} of the {self.utterances:,} utterances of the split {self.place} "
            f"are left out ({reasons}){others}"
        )


def left_out_of_test(
    dataset: Dataset, splits: SplitConfig, reasons: Mapping[str, Rows]
) -> LeftOut | None:
    """Return what the test part lacks of its split, by the rows that are left out for a reason.

    A list names the utterances of its part, all of which are tested.
    """
    if splits.test_list:
        return None
    drawn = splits.test == DRAWN
    split = splits.train if drawn else splits.test
    rows = dataset.rows([split])
    counts = {reason: len(np.intersect1d(rows, each)) for reason, each in reasons.items()}
    return LeftOut(split=split, utterances=len(rows), drawn=drawn, reasons=counts)
