"""The metric by duration and by gender, the accuracy of each class, and the confused classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.confusion import Confusion, Counts
from aalbert.train.downstream.error_rates import equal_error_rate, error_rates
from aalbert.train.downstream.measures import Measure
from aalbert.train.downstream.outcomes import Outcome, Tallied
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.metrics import Clusters, tally_interval
from aalbert.train.evaluation.significance import Amounts, Interval

# The edges of the ranges of durations; VoxCeleb1's utterances are 4 to 145 s long, 8.2 on average.
DURATION_EDGES_S = (2.0, 4.0, 6.0, 8.0, 12.0, 20.0)
GENDERS = {"m": "male", "f": "female"}


@dataclass(frozen=True, kw_only=True)
class Group:
    """The metric over a group of the test items; trials and single numbers have no interval."""

    name: str
    items: int
    value: float
    interval_95: Interval | None


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """The accuracy of one class; `confused_with` is the most frequent class of its errors."""

    name: str
    items: int
    accuracy: float
    confused_with: str | None


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """The number and the share of a class's items that were predicted as another class."""

    true: str
    predicted: str
    items: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """The number of a class's items that were deleted, or inserted."""

    name: str
    items: int


def duration_labels(seconds: NDArray[np.float64]) -> list[str]:
    """Return the range of durations of each utterance, such as `4 to 6 s`."""
    edges = DURATION_EDGES_S
    between = [f"{low:g} to {high:g} s" for low, high in zip(edges, edges[1:], strict=False)]
    names = [f"under {edges[0]:g} s", *between, f"{edges[-1]:g} s or more"]
    return [names[place] for place in np.digitize(seconds, edges)]


def duration_order(name: str) -> float:
    """Return the sorting key of a range of durations."""
    return 0.0 if name.startswith("under") else float(name.split()[0])


def gender_labels(values: Sequence[str | None]) -> list[str | None]:
    """Return genders as words; `m` and `F` are spelled out, other spellings stay."""
    return [GENDERS.get(value.strip().lower(), value) if value else None for value in values]


def tally_by(
    labels: Sequence[str | None], outcome: Tallied, cluster: NDArray[np.int64]
) -> list[Group]:
    """Return the metric over the utterances of each label; those without one are left out."""
    groups = []
    for name in sorted({label for label in labels if label}):
        chosen = np.array([label == name for label in labels])
        amounts, scored = outcome.amounts[chosen], outcome.scored[chosen]
        own = np.unique(cluster[chosen], return_inverse=True)[1]
        groups.append(
            Group(
                name=name,
                items=int(scored.sum()),
                value=round(float(amounts.sum() / scored.sum()), 6),
                interval_95=interval_of(outcome.measure, amounts, scored, own),
            )
        )
    return groups


def interval_of(
    measure: Measure, amounts: Amounts, scored: NDArray[np.int64], cluster: NDArray[np.int64]
) -> Interval | None:
    """Return the interval of a group; a single number says nothing of how others vary."""
    if not measure.share and len(scored) == 1:
        return None
    return tally_interval(measure, amounts, scored, cluster)


def eer_by(labels: Sequence[str | None], trials: Trials) -> list[Group]:
    """Return the equal error rate over the trials of each label that has trials of both kinds."""
    groups = []
    for name in sorted({label for label in labels if label}):
        chosen = np.array([label == name for label in labels])
        same = trials.same[chosen]
        if same.any() and not same.all():
            rate = equal_error_rate(error_rates(trials.scores[chosen], same))
            groups.append(Group(name=name, items=len(same), value=round(rate, 6), interval_95=None))
    return groups


def by_duration(outcome: Outcome, dataset: Dataset, clusters: Clusters) -> tuple[Group, ...]:
    """Return the metric by duration; a trial has that of its shorter utterance."""
    rate = next(iter(dataset.manifest.features.values())).sample_rate
    seconds = dataset.table.column("samples").to_numpy() / rate
    if isinstance(outcome, Trials):
        shorter = np.minimum(seconds[outcome.left], seconds[outcome.right])
        groups = eer_by(duration_labels(shorter), outcome)
    else:
        labels = duration_labels(seconds[outcome.rows])
        groups = tally_by(labels, outcome, clusters.among(outcome.rows))
    return tuple(sorted(groups, key=lambda group: duration_order(group.name)))


def by_gender(outcome: Outcome, dataset: Dataset, clusters: Clusters) -> tuple[Group, ...]:
    """Return the metric by gender if the index has it; trials of two genders are left out."""
    if "gender" not in dataset.table.column_names:
        return ()
    genders = gender_labels(dataset.column("gender"))
    if not isinstance(outcome, Trials):
        labels = [genders[row] for row in outcome.rows]
        return tuple(tally_by(labels, outcome, clusters.among(outcome.rows)))
    pairs = [(genders[a], genders[b]) for a, b in zip(outcome.left, outcome.right, strict=True)]
    return tuple(eer_by([one if one == other else None for one, other in pairs], outcome))


def class_results(names: Sequence[str], confusion: Confusion) -> tuple[ClassResult, ...]:
    """Return the results of all tested classes, the lowest accuracy first."""
    totals, correct, mistaken_for = (
        confusion.totals(),
        confusion.correct(),
        confusion.commonest_errors(),
    )
    results = [
        ClassResult(
            name=names[number],
            items=int(totals[number]),
            accuracy=round(float(correct[number] / totals[number]), 6),
            confused_with=names[mistaken_for[number]] if mistaken_for[number] >= 0 else None,
        )
        for number in np.flatnonzero(totals).tolist()
    ]
    return tuple(sorted(results, key=lambda result: (result.accuracy, result.name)))


def most_confused(
    names: Sequence[str], confusion: Confusion, limit: int = 20
) -> tuple[ConfusedPair, ...]:
    """Return the pairs (true, predicted) with the most errors, in falling order."""
    errors, totals = confusion.errors(), confusion.totals()
    pairs = zip(errors.true[:limit], errors.predicted[:limit], errors.items[:limit], strict=True)
    return tuple(
        ConfusedPair(
            true=names[true],
            predicted=names[predicted],
            items=int(items),
            share=round(float(items / totals[true]), 6),
        )
        for true, predicted, items in pairs
    )


def most_unpaired(
    names: Sequence[str], unpaired: Counts | None, limit: int = 20
) -> tuple[Unpaired, ...]:
    """Return the classes with the most items without a counterpart, in falling order."""
    if unpaired is None:
        return ()
    order = np.argsort(-unpaired, kind="stable")[:limit]
    return tuple(
        Unpaired(name=names[number], items=int(unpaired[number]))
        for number in order.tolist()
        if unpaired[number]
    )


def worst_classes(confusion: Confusion, limit: int) -> NDArray[np.int64]:
    """Return up to `limit` classes, rising: the least accurate and those they are confused with.

    Classes are added in rising order of accuracy, each with the most frequent class of its
    errors, until no further pair fits.
    """
    totals, mistaken_for = confusion.totals(), confusion.commonest_errors()
    accuracy = confusion.correct() / np.maximum(1, totals)
    chosen: set[int] = set()
    for number in np.argsort(accuracy, kind="stable"):
        if totals[number] == 0:
            continue
        added = {int(number)}
        if mistaken_for[number] >= 0:
            added.add(int(mistaken_for[number]))
        if len(chosen | added) > limit:
            break
        chosen |= added
    return np.array(sorted(chosen))
