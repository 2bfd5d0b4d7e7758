from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.train.downstream.error_rates import (
    RankedTrials,
    equal_error_rate,
    equal_error_threshold,
    error_rates,
    minimum_detection_cost,
    probit,
)


def rates_by_hand(scores: list[float], targets: list[bool]) -> tuple[list[float], list[float]]:
    """Misses and false alarms at every threshold, one trial after the other."""
    thresholds = [*sorted(set(scores)), float("inf")]
    trials = list(zip(scores, targets, strict=True))
    misses, false_alarms = [], []
    for threshold in thresholds:
        missed = sum(1 for score, target in trials if target and score < threshold)
        accepted = sum(1 for score, target in trials if not target and score >= threshold)
        misses.append(missed / sum(targets))
        false_alarms.append(accepted / (len(targets) - sum(targets)))
    return misses, false_alarms


def random_trials(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    targets = np.append(generator.random(generator.integers(3, 40)) < 0.4, [True, False])
    # Coarse scores, so that many are equal.
    return np.round(generator.normal(targets, 1.0), 1), targets


@pytest.mark.parametrize("seed", range(50))
def test_rates_costs_and_eer_equal_a_count_at_every_threshold(seed: int) -> None:
    scores, targets = random_trials(seed)
    misses, false_alarms = rates_by_hand(scores.tolist(), targets.tolist())
    rates = error_rates(scores, targets)
    assert rates.misses.tolist() == pytest.approx(misses)
    assert rates.false_alarms.tolist() == pytest.approx(false_alarms)
    for prior in (0.01, 0.05, 0.5, 0.9):
        costs = [
            (prior * miss + (1 - prior) * alarm) / min(prior, 1 - prior)
            for miss, alarm in zip(misses, false_alarms, strict=True)
        ]
        assert minimum_detection_cost(rates, prior) == pytest.approx(min(costs))
    # The lines between neighbouring points cross the diagonal at the equal error rate.
    crossings = [
        (m0 * (a0 - a1) + a0 * (m1 - m0)) / ((m1 - m0) + (a0 - a1))
        for m0, m1, a0, a1 in zip(misses, misses[1:], false_alarms, false_alarms[1:], strict=False)
        if m0 < a0 and m1 >= a1
    ]
    assert equal_error_rate(rates) == pytest.approx(crossings[0])


def test_separated_trials_have_no_errors_and_reversed_ones_only_errors() -> None:
    scores, targets = np.arange(6.0), np.arange(6) >= 3
    assert equal_error_rate(error_rates(scores, targets)) == 0
    assert minimum_detection_cost(error_rates(scores, targets)) == 0
    assert equal_error_rate(error_rates(-scores, targets)) == 1
    # Rejecting everything is never worse than a cost of one.
    assert minimum_detection_cost(error_rates(-scores, targets)) == 1


def test_a_model_that_gives_every_trial_the_same_score_is_at_chance() -> None:
    rates = error_rates(np.zeros(10), np.arange(10) < 3)
    assert equal_error_rate(rates) == 0.5
    assert minimum_detection_cost(rates) == 1


def test_two_normal_distributions_give_the_rate_of_their_overlap() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(200_000) % 2 == 0
    rates = error_rates(generator.normal(2.0 * targets, 1.0), targets)
    assert equal_error_rate(rates) == pytest.approx(NormalDist().cdf(-1), abs=0.002)
    # On the axes of a DET curve they are a straight line of slope -1.
    middle = (rates.misses > 0.05) & (rates.misses < 0.6)
    sums = probit(rates.misses[middle][::500]) + probit(rates.false_alarms[middle][::500])
    assert np.ptp(sums) < 0.06 and sums.mean() == pytest.approx(-2, abs=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_a_weight_of_two_is_the_trial_twice(seed: int) -> None:
    scores, targets = random_trials(seed)
    ranked, generator = RankedTrials.of(scores, targets), np.random.default_rng(seed)
    # Trials are ranked once for all weights.
    for _ in range(5):
        times = generator.integers(0, 3, len(scores))
        times[targets.argmax()], times[targets.argmin()] = 1, 1
        repeated = error_rates(np.repeat(scores, times), np.repeat(targets, times))
        weighted = ranked.error_rates(times.astype(float))
        assert equal_error_rate(weighted) == equal_error_rate(repeated)
        assert minimum_detection_cost(weighted) == minimum_detection_cost(repeated)


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_has_the_closest_error_rates_of_all(seed: int) -> None:
    scores, targets = random_trials(seed)
    threshold = equal_error_threshold(scores, targets)
    accepted = scores >= threshold.score
    assert threshold.misses == pytest.approx(np.mean(~accepted[targets]))
    assert threshold.false_alarms == pytest.approx(np.mean(accepted[~targets]))
    gaps = [
        abs(miss - alarm)
        for miss, alarm in zip(*rates_by_hand(scores.tolist(), targets.tolist()), strict=True)
    ]
    assert abs(threshold.misses - threshold.false_alarms) == pytest.approx(min(gaps))
    assert threshold.trials == len(scores) and threshold.score not in scores
