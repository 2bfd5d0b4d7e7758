"""How sure a figure is: 95 % intervals by resampling, and tests between two runs.

Utterances of one recording session share a microphone and a mood, so they are not independent
witnesses. What is resampled is therefore the cluster: the session where the index names one,
the speaker for trials. Everything here is a pure function of its arguments.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 2_000
CONFIDENCE = 0.95


def wilson_interval(right: float, counted: float) -> Interval:
    """Return the 95 % score interval of a share (Wilson 1927); not of zero width at 0 or 1."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = right / counted
    centre = (share + z**2 / (2 * counted)) / (1 + z**2 / counted)
    spread = share * (1 - share) / counted + z**2 / (4 * counted**2)
    reach = z * math.sqrt(spread) / (1 + z**2 / counted)
    low = centre - reach if right else 0.0
    high = centre + reach if right < counted else 1.0
    return low, high


def draw_clusters(clusters: int, seed: int, draws: int = DRAWS) -> Iterator[NDArray[np.int64]]:
    """Yield resamples: how often each of the clusters was drawn, `(clusters,)`."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(clusters, size=clusters), minlength=clusters)


def percentile_interval(values: Floats) -> Interval:
    """Return the middle 95 % of resampled values (the percentile bootstrap, Efron 1979)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def cluster_sums(values: NDArray[np.int64], cluster: NDArray[np.int64]) -> Floats:
    """Return the sum of values over each cluster, `(clusters,)`."""
    sums: Floats = np.bincount(cluster, weights=values).astype(np.float64)
    return sums


def resampled_shares(
    right: NDArray[np.int64], counted: NDArray[np.int64], cluster: NDArray[np.int64], seed: int
) -> Floats:
    """Return `sum(right) / sum(counted)` of resamples of whole clusters, `(draws,)`.

    `cluster` numbers the cluster of every entry from 0. The same seed and clusters give the
    same resamples, so two runs can be compared draw by draw.
    """
    rights, totals = cluster_sums(right, cluster), cluster_sums(counted, cluster)
    drawn = draw_clusters(len(totals), seed)
    return np.array([(times @ rights) / (times @ totals) for times in drawn])


def share_interval(
    right: NDArray[np.int64], counted: NDArray[np.int64], cluster: NDArray[np.int64], seed: int = 0
) -> Interval:
    """Return the 95 % interval of `sum(right) / sum(counted)`.

    It is the cluster bootstrap's, widened to Wilson's where that reaches further: when all or
    none are right every resample says the same, and only Wilson knows that a few items prove
    little.
    """
    low, high = percentile_interval(resampled_shares(right, counted, cluster, seed))
    wilson = wilson_interval(float(right.sum()), float(counted.sum()))
    return min(low, wilson[0]), max(high, wilson[1])


def trial_weights(
    drawn: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Floats:
    """Return the weight of every trial when each speaker is drawn so often.

    A trial of two speakers comes once for every pair of their copies; a trial of one speaker
    once for every copy, since two copies of a speaker are not compared with each other.
    """
    weights = np.where(left == right, drawn[left], drawn[left] * drawn[right])
    return weights.astype(np.float64)


def resampled_trials(
    measure: Callable[[Floats], float],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    same: NDArray[np.bool_],
    seed: int,
    draws: int = DRAWS,
) -> Floats:
    """Return `measure(weights of the trials)` for resamples of whole speakers.

    `left` and `right` number the speakers of every trial from 0. Resamples without any trial
    of one kind are left out.
    """
    speakers = int(max(left.max(), right.max())) + 1
    values = []
    for drawn in draw_clusters(speakers, seed, draws):
        weights = trial_weights(drawn, left, right)
        if weights[same].any() and weights[~same].any():
            values.append(measure(weights))
    return np.array(values)


def bootstrap_p_value(differences: Floats) -> float:
    """Return the two-sided p-value of no difference, from resampled differences.

    Twice the smaller share of resamples on one side of zero, of which zero itself counts for
    both; at least `2 / (draws + 1)`, since no number of draws proves that a thing never is.
    """
    draws = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (draws + 1))


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947).

    Of the utterances that one run has right and the other wrong, each run should have half:
    a binomial test of `first_only` against `second_only`.
    """
    total = first_only + second_only
    ways = tail = 1
    for count in range(min(first_only, second_only)):
        ways = ways * (total - count) // (count + 1)
        tail += ways
    # Whole numbers: 0.5 ** total is no float any more from 1075 utterances on.
    return min(1.0, float(2 * tail / 2**total))


def holm_adjusted(p_values: list[float]) -> list[float]:
    """Return p-values that account for how many tests were made (Holm 1979), in their order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
