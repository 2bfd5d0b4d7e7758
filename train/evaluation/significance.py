"""The uncertainty of figures: 95 % intervals by resampling, and tests between two runs.

Utterances of one recording session share a microphone and a mood, so they are not independent
observations. Whole clusters are therefore resampled: sessions where the index has them, speakers
for trials. Everything here is a pure function of its arguments.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from aalbert.common.progress import shown

Floats = NDArray[np.float64]
Interval = tuple[float, float]
# Of every entry: counts, or sums of errors.
Amounts = NDArray[np.int64] | Floats

DRAWS = 2_000
CONFIDENCE = 0.95


def wilson_interval(correct: float, scored: float) -> Interval:
    """Return the 95 % score interval of a share (Wilson 1927); its width is not 0 at 0 or 1."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = correct / scored
    centre = (share + z**2 / (2 * scored)) / (1 + z**2 / scored)
    spread = share * (1 - share) / scored + z**2 / (4 * scored**2)
    reach = z * math.sqrt(spread) / (1 + z**2 / scored)
    low = centre - reach if correct else 0.0
    high = centre + reach if correct < scored else 1.0
    return low, high


def draw_clusters(clusters: int, seed: int, draws: int = DRAWS) -> Iterator[NDArray[np.int64]]:
    """Yield resamples: the number of times that each cluster was drawn, `(clusters,)`."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(clusters, size=clusters), minlength=clusters)


def percentile_interval(values: Floats) -> Interval:
    """Return the middle 95 % of resampled values (the percentile bootstrap, Efron 1979)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def resampled_ratios(
    amounts: Amounts, scored: NDArray[np.int64], cluster: NDArray[np.int64], seed: int
) -> Floats:
    """Return `sum(amounts) / sum(scored)` of resamples of whole clusters, `(draws,)`.

    `cluster` numbers the cluster of every entry from 0. The same seed and clusters give the
    same resamples, so two runs can be compared draw by draw.
    """
    sums = np.bincount(cluster, weights=amounts)
    totals = np.bincount(cluster, weights=scored)
    drawn = draw_clusters(len(totals), seed)
    return np.array([(times @ sums) / (times @ totals) for times in drawn])


def share_interval(
    correct: Amounts, scored: NDArray[np.int64], cluster: NDArray[np.int64], seed: int = 0
) -> Interval:
    """Return the 95 % interval of `sum(correct) / sum(scored)`.

    It is the cluster bootstrap's, widened to Wilson's where that reaches further: when all or
    none are correct, every resample gives the same share, and only Wilson's interval depends on
    the number of items. It has none for a rate of errors above 1, which inserted items can give.
    """
    low, high = percentile_interval(resampled_ratios(correct, scored, cluster, seed))
    if correct.sum() > scored.sum():
        return low, high
    wilson = wilson_interval(float(correct.sum()), float(scored.sum()))
    return min(low, wilson[0]), max(high, wilson[1])


def mean_interval(
    amounts: Amounts, scored: NDArray[np.int64], cluster: NDArray[np.int64], seed: int = 0
) -> Interval:
    """Return the 95 % interval of `sum(amounts) / sum(scored)`, a mean that is no share.

    It is the cluster bootstrap's, widened to the normal interval of independent entries where that
    reaches further: resamples of a single cluster are all the same.
    """
    low, high = percentile_interval(resampled_ratios(amounts, scored, cluster, seed))
    mean = amounts.sum() / scored.sum()
    residuals = amounts - mean * scored
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    reach = z * math.sqrt(float(np.square(residuals).sum())) / float(scored.sum())
    return min(low, mean - reach), max(high, mean + reach)


def trial_weights(
    drawn: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Floats:
    """Return the weight of every trial, given the number of times that each speaker is drawn.

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

    `left` and `right` number the speakers of every trial from 0. Resamples without trials
    of both kinds are left out.
    """
    speakers = int(max(left.max(), right.max())) + 1
    values = []
    drawings = draw_clusters(speakers, seed, draws)
    for drawn in shown(drawings, "resample speakers", total=draws, unit="draw"):
        weights = trial_weights(drawn, left, right)
        if weights[same].any() and weights[~same].any():
            values.append(measure(weights))
    return np.array(values)


def bootstrap_p_value(differences: Floats) -> float:
    """Return the two-sided p-value of no difference, from resampled differences.

    It is twice the smaller share of resamples on one side of zero, where zero itself counts on
    both sides; at least `2 / (draws + 1)`, since no number of draws proves a probability of 0.
    """
    draws = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (draws + 1))


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947).

    Of the utterances that only one run classifies correctly, each run should have half: a
    binomial test of `first_only` against `second_only`.
    """
    total = first_only + second_only
    ways = tail = 1
    for count in range(min(first_only, second_only)):
        ways = ways * (total - count) // (count + 1)
        tail += ways
    # Integers, since 0.5 ** total underflows to 0 from 1075 utterances on.
    return min(1.0, float(2 * tail / 2**total))


def holm_adjusted(p_values: list[float]) -> list[float]:
    """Return p-values adjusted for the number of tests (Holm 1979), in their order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
