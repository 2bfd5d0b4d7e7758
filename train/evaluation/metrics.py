"""The metric of an outcome with its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.error_rates import (
    TARGET_PRIORS,
    ErrorRates,
    RankedTrials,
    equal_error_rate,
    error_rates,
    minimum_detection_cost,
)
from aalbert.train.downstream.likelihood_ratios import (
    actual_detection_cost,
    log_likelihood_ratio_cost,
    minimum_likelihood_ratio_cost,
)
from aalbert.train.downstream.measures import Measure
from aalbert.train.downstream.outcomes import Outcome, Tallied
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.significance import (
    Amounts,
    Floats,
    Interval,
    mean_interval,
    percentile_interval,
    resampled_trials,
    share_interval,
    wilson_interval,
)

# A draw over half a million trials takes some 50 ms; 500 of them give p-values down to 0.004.
TRIAL_DRAWS = 500
# The columns of recording sessions, in VoxCeleb1 and in LibriSpeech.
SESSION_COLUMNS = ("video", "chapter")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric of a task with its 95 % interval; `resampled` is the number of resampled clusters.

    A `share` is stated in percent. `baselines` are the values without a model; `further` are other
    metrics of the same outcome, without intervals.
    """

    name: str
    value: float
    interval_95: Interval
    higher_is_better: bool
    share: bool
    resampled: str
    baselines: dict[str, float]
    further: dict[str, float]


@dataclass(frozen=True, eq=False)
class Clusters:
    """The cluster (session, speaker or row alone) of every row of a dataset, numbered from 0."""

    kind: str
    of_row: NDArray[np.int64]

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the clusters of some rows, renumbered from 0."""
        own: NDArray[np.int64] = np.unique(self.of_row[rows], return_inverse=True)[1]
        return own


def sessions(dataset: Dataset) -> Clusters:
    """Return the recording session of every row: a speaker's video or chapter, or the row alone."""
    for name in SESSION_COLUMNS:
        if name in dataset.table.column_names:
            speakers, values = dataset.column("speaker"), dataset.column(name)
            pairs = zip(speakers, values, strict=True)
            return number_clusters(
                name, [f"{who}\n{what}" if what else None for who, what in pairs]
            )
    return number_clusters("utterance", [None] * len(dataset))


def speakers(dataset: Dataset) -> Clusters:
    """Return the speaker of every row."""
    return number_clusters("speaker", dataset.column("speaker"))


def number_clusters(kind: str, names: Sequence[str | None]) -> Clusters:
    """Return the cluster of every row by its name; a row without one is alone."""
    unique = [(-1, name) if name else (row, "") for row, name in enumerate(names)]
    place = {cluster: number for number, cluster in enumerate(sorted(set(unique)))}
    return Clusters(kind, np.array([place[cluster] for cluster in unique], np.int64))


def clusters_for(outcome: Outcome, dataset: Dataset) -> Clusters:
    """Return the clusters that intervals resample: speakers for trials, else recording sessions."""
    return speakers(dataset) if isinstance(outcome, Trials) else sessions(dataset)


def metric_of(
    outcome: Outcome, clusters: Clusters, baselines: dict[str, float], seed: int
) -> Metric:
    """Return the metric of an outcome with its interval."""
    if isinstance(outcome, Trials):
        return equal_error_rate_of(outcome, clusters, baselines, seed)
    return tallied_metric(outcome, clusters, baselines, seed)


def tallied_metric(
    outcome: Tallied, clusters: Clusters, baselines: dict[str, float], seed: int
) -> Metric:
    """Return a metric that is a sum over utterances, divided by the number of scored items."""
    measure, cluster = outcome.measure, clusters.among(outcome.rows)
    interval = tally_interval(measure, outcome.amounts, outcome.scored, cluster, seed)
    return Metric(
        name=measure.name,
        value=round(outcome.value, 6),
        interval_95=rounded(interval),
        higher_is_better=measure.higher_is_better,
        share=measure.share,
        resampled=quantity(clusters.kind, int(cluster.max()) + 1),
        baselines=baselines,
        further={name: round(value, 6) for name, value in outcome.further().items()},
    )


def tally_interval(
    measure: Measure,
    amounts: Amounts,
    scored: NDArray[np.int64],
    cluster: NDArray[np.int64],
    seed: int = 0,
) -> Interval:
    """Return the interval of what a measure adds up for utterances, over their scored items."""
    if not measure.share:
        return mean_interval(amounts, scored, cluster, seed)
    return share_interval(amounts, scored, cluster, seed)


def equal_error_rate_of(
    trials: Trials, clusters: Clusters, baselines: dict[str, float], seed: int
) -> Metric:
    """Return the equal error rate, and costs beside it.

    The interval is the bootstrap's over speakers, widened to Wilson's for as many trials as the
    rarer kind has: without errors every resample gives the same rate.
    """
    left, right = trial_clusters(clusters.of_row, trials)
    ranked = RankedTrials.of(trials.scores, trials.same)

    def measure(weights: Floats) -> float:
        return equal_error_rate(ranked.error_rates(weights))

    rates = error_rates(trials.scores, trials.same)
    value = equal_error_rate(rates)
    drawn = resampled_trials(measure, left, right, trials.same, seed, TRIAL_DRAWS)
    rarer = int(min(trials.same.sum(), (~trials.same).sum()))
    bounds = [percentile_interval(drawn), wilson_interval(value * rarer, rarer)]
    return Metric(
        name=trials.measure.name,
        value=round(value, 6),
        interval_95=rounded((min(low for low, _ in bounds), max(high for _, high in bounds))),
        higher_is_better=trials.measure.higher_is_better,
        share=trials.measure.share,
        resampled=quantity(clusters.kind, int(max(left.max(), right.max())) + 1),
        baselines=baselines,
        further={name: round(cost, 6) for name, cost in detection_costs(trials, rates).items()},
    )


def detection_costs(trials: Trials, rates: ErrorRates) -> dict[str, float]:
    """Return the least costs of trials, and the actual ones of calibrated scores."""
    scores, same = trials.scores, trials.same
    costs = {f"minDCF {prior:g}": minimum_detection_cost(rates, prior) for prior in TARGET_PRIORS}
    if trials.calibrated:
        costs |= {
            f"actDCF {prior:g}": actual_detection_cost(scores, same, prior)
            for prior in TARGET_PRIORS
        }
    costs["min Cllr"] = minimum_likelihood_ratio_cost(scores, same)
    if trials.calibrated:
        costs["Cllr"] = log_likelihood_ratio_cost(scores, same)
    return costs


def trial_clusters(
    of_row: NDArray[np.int64], trials: Trials
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the clusters of both sides of every trial, renumbered from 0."""
    both = np.concatenate([of_row[trials.left], of_row[trials.right]])
    own: NDArray[np.int64] = np.unique(both, return_inverse=True)[1]
    return own[: len(trials.left)], own[len(trials.left) :]


def quantity(kind: str, number: int) -> str:
    """Return a number with the name of what is counted: `24 videos`."""
    return f"{number:,} {kind}{'' if number == 1 else 's'}"


def rounded(interval: Interval) -> Interval:
    """Return an interval rounded to six decimals."""
    return round(interval[0], 6), round(interval[1], 6)
