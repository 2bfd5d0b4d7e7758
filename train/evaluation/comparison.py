"""The comparison of several runs with the first: paired differences and their significance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import ConfigError, require
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.error_rates import RankedTrials, equal_error_rate
from aalbert.train.downstream.outcomes import Outcome, Tallied
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.metrics import TRIAL_DRAWS, trial_clusters
from aalbert.train.evaluation.significance import (
    Floats,
    Interval,
    bootstrap_p_value,
    holm_adjusted,
    mcnemar_p_value,
    percentile_interval,
    resampled_ratios,
    resampled_trials,
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run against the reference: the difference of the metric, its 95 % interval, p-values.

    The metric is a `share`, or another number. `bootstrap_p` is of the paired bootstrap over
    sessions or speakers. `mcnemar_p`, exact, assumes independent utterances; it is None unless
    these were classified. Both are adjusted for the number of runs that are compared (Holm). Where
    the frames of both runs have different lengths, the comparison is by time, over label frames;
    `accuracy_by_time` and `reference_by_time` are the accuracies there, and None elsewhere.
    """

    run: str
    reference: str
    share: bool
    difference: float
    interval_95: Interval
    bootstrap_p: float
    mcnemar_p: float | None
    accuracy_by_time: float | None = None
    reference_by_time: float | None = None


def compare(
    names: Sequence[str], outcomes: Sequence[Outcome], clusters: NDArray[np.int64], seed: int = 0
) -> list[Comparison]:
    """Compare every run but the first with the first one.

    `clusters` numbers the session of every dataset row, or the speaker where the outcomes are
    trials. Raises `ConfigError` when two runs were not tested on the same items, or were to predict
    something else.
    """
    comparisons = []
    for name, outcome in zip(names[1:], outcomes[1:], strict=True):
        first, second, by_time = on_same_items(outcomes[0], outcome, (names[0], name))
        differences, mcnemar = paired(first, second, clusters, seed)
        comparisons.append(
            Comparison(
                run=name,
                reference=names[0],
                share=outcome.measure.share,
                difference=round(second.value - first.value, 6),
                interval_95=percentile_interval(differences),
                bootstrap_p=bootstrap_p_value(differences),
                mcnemar_p=mcnemar,
                accuracy_by_time=round(second.value, 6) if by_time else None,
                reference_by_time=round(first.value, 6) if by_time else None,
            )
        )
    return adjusted(comparisons)


def on_same_items(
    first: Outcome, second: Outcome, names: tuple[str, str]
) -> tuple[Outcome, Outcome, bool]:
    """Return two outcomes over the same items, and whether they had to be taken by time.

    Raises `ConfigError` when the runs were not tested on the same utterances or trials, or these
    have other true labels.
    """
    by_time = False
    if isinstance(first, Trials) or isinstance(second, Trials):
        assert isinstance(first, Trials) and isinstance(second, Trials)
        same = np.array_equal(first.left, second.left) and np.array_equal(first.right, second.right)
    else:
        same = np.array_equal(first.rows, second.rows)
        if same:
            require_same_truth(first, second, names)
        if isinstance(first, Decisions) and isinstance(second, Decisions) and same:
            by_time = first.of_frames and not np.array_equal(first.scored, second.scored)
            if by_time:
                first, second = first.by_time(), second.by_time()
        same = same and np.array_equal(first.scored, second.scored)
    if not same:
        raise ConfigError(
            f"{names[1]} was tested on other utterances than {names[0]}: "
            "evaluate them one by one, their figures cannot be compared"
        )
    return first, second, by_time


def require_same_truth(first: Tallied, second: Tallied, names: tuple[str, str]) -> None:
    """Raise `ConfigError` unless the same was to be predicted of the same utterances."""
    truths = first.truth, second.truth
    same = len(truths[0]) == len(truths[1]) and all(map(np.array_equal, *truths))
    require(
        same,
        f"{names[1]} has other true labels than {names[0]}, of the same utterances: evaluate them "
        "one by one, their figures cannot be compared",
    )


def paired(
    first: Outcome, second: Outcome, clusters: NDArray[np.int64], seed: int
) -> tuple[Floats, float | None]:
    """Return differences (second less first) over the same resamples, and McNemar's p-value.

    Speakers are resampled for trials, else sessions.
    """
    if isinstance(first, Trials) or isinstance(second, Trials):
        assert isinstance(first, Trials) and isinstance(second, Trials)
        return paired_trials(first, second, clusters, seed), None
    own = np.unique(clusters[first.rows], return_inverse=True)[1]
    ratios = [resampled_ratios(each.amounts, each.scored, own, seed) for each in (first, second)]
    mcnemar = None
    if isinstance(first, Decisions) and isinstance(second, Decisions) and not first.of_frames:
        first_only = int((first.correct > second.correct).sum())
        second_only = int((second.correct > first.correct).sum())
        mcnemar = mcnemar_p_value(first_only, second_only)
    return ratios[1] - ratios[0], mcnemar


def paired_trials(first: Trials, second: Trials, clusters: NDArray[np.int64], seed: int) -> Floats:
    """Return differences of the equal error rate (second less first) over the same resamples."""
    ranked = [RankedTrials.of(each.scores, each.same) for each in (first, second)]

    def difference(weights: Floats) -> float:
        rates = [equal_error_rate(each.error_rates(weights)) for each in ranked]
        return rates[1] - rates[0]

    left, right = trial_clusters(clusters, first)
    return resampled_trials(difference, left, right, first.same, seed, TRIAL_DRAWS)


def adjusted(comparisons: list[Comparison]) -> list[Comparison]:
    """Return the comparisons with p-values adjusted for their number."""
    bootstrap = holm_adjusted([each.bootstrap_p for each in comparisons])
    exact: list[float] | list[None] = [None] * len(comparisons)
    if all(each.mcnemar_p is not None for each in comparisons):
        exact = holm_adjusted([each.mcnemar_p or 0.0 for each in comparisons])
    return [
        replace(each, bootstrap_p=p, mcnemar_p=q)
        for each, p, q in zip(comparisons, bootstrap, exact, strict=True)
    ]
