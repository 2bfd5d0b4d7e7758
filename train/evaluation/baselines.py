"""What is reached without a model: the metrics of trivial predictions of a part."""

import numpy as np

from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.numbers import NumberLabels, Numbers
from aalbert.train.downstream.objectives import TaskLabels
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.downstream.phone_sequences import PhoneSequences


def baselines_of(outcome: Outcome, labels: TaskLabels, train: Rows) -> dict[str, float]:
    """Return the metrics of trivial predictions by name; `train` are the rows to train on.

    Of classes these are guessing, and always the most frequent class to train on; of numbers their
    median and their mean, of phones none at all.
    """
    if isinstance(outcome, Numbers):
        assert isinstance(labels, NumberLabels)
        constants = {"training median": labels.median, "training mean": labels.mean}
        found = {name: np.abs(outcome.true - number).mean() for name, number in constants.items()}
    elif isinstance(labels, PhoneSequences):
        found = {"no phones": 1.0}
    elif isinstance(outcome, Decisions):
        assert not isinstance(labels, NumberLabels)
        items = outcome.confusion.totals()
        frequent = items[labels.majority(train)] / max(1, items.sum())
        found = {"guessing": 1 / len(outcome.names), "most frequent class": frequent}
    else:
        found = {"guessing": 0.5}
    return {name: round(float(value), 6) for name, value in found.items()}
