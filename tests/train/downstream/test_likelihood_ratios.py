import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.train.downstream.error_rates import error_rates, minimum_detection_cost
from aalbert.train.downstream.likelihood_ratios import (
    actual_detection_cost,
    bayes_threshold,
    log_likelihood_ratio_cost,
    minimum_likelihood_ratio_cost,
)


def random_trials(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    targets = np.append(generator.random(generator.integers(3, 30)) < 0.4, [True, False])
    # Coarse scores, so that many are equal.
    return np.round(generator.normal(2 * targets - 1, 1.5), 1), targets


def cost_by_hand(ratios: list[float], targets: list[bool]) -> float:
    wanted = [math.log2(1 + math.exp(-r)) for r, t in zip(ratios, targets, strict=True) if t]
    others = [math.log2(1 + math.exp(r)) for r, t in zip(ratios, targets, strict=True) if not t]
    return (sum(wanted) / len(wanted) + sum(others) / len(others)) / 2


def isotonic_by_hand(scores: list[float], targets: list[bool]) -> list[float]:
    """The max-min formula of isotonic regression, over all intervals around each trial."""
    values = sorted(set(scores))
    of_value = [
        [target for score, target in zip(scores, targets, strict=True) if score == value]
        for value in values
    ]
    shares = [
        max(
            min(
                np.mean([target for group in of_value[first : last + 1] for target in group])
                for last in range(place, len(values))
            )
            for first in range(place + 1)
        )
        for place in range(len(values))
    ]
    return [float(shares[values.index(score)]) for score in scores]


@pytest.mark.parametrize("seed", range(30))
def test_costs_equal_sums_over_single_trials(seed: int) -> None:
    ratios, targets = random_trials(seed)
    expected = cost_by_hand(ratios.tolist(), targets.tolist())
    assert log_likelihood_ratio_cost(ratios, targets) == pytest.approx(expected)
    for prior in (0.01, 0.05, 0.5):
        threshold = math.log((1 - prior) / prior)
        assert bayes_threshold(prior) == pytest.approx(threshold)
        missed = sum(t and r < threshold for r, t in zip(ratios, targets, strict=True))
        accepted = sum(not t and r >= threshold for r, t in zip(ratios, targets, strict=True))
        cost = prior * missed / targets.sum() + (1 - prior) * accepted / (~targets).sum()
        found = actual_detection_cost(ratios, targets, prior)
        assert found == pytest.approx(cost / min(prior, 1 - prior))
        # No threshold can cost less than the best one.
        assert found >= minimum_detection_cost(error_rates(ratios, targets), prior) - 1e-12


@pytest.mark.parametrize("seed", range(30))
def test_the_minimum_is_that_of_isotonic_regression(seed: int) -> None:
    scores, targets = random_trials(seed)
    shares = isotonic_by_hand(scores.tolist(), targets.tolist())
    odds = targets.sum() / (~targets).sum()
    # What is certain gets a ratio so large that it costs nothing.
    ratios = [
        50.0 if share == 1 else -50.0 if share == 0 else math.log(share / (1 - share) / odds)
        for share in shares
    ]
    found = minimum_likelihood_ratio_cost(scores, targets)
    assert found == pytest.approx(cost_by_hand(ratios, targets.tolist()), abs=1e-9)
    # It stays under any rising function, and no calibration is better.
    assert minimum_likelihood_ratio_cost(np.exp(scores), targets) == pytest.approx(found)
    assert found <= log_likelihood_ratio_cost(scores, targets) + 1e-12


def test_ratios_that_say_nothing_cost_one_bit_and_separated_trials_nothing() -> None:
    targets = np.arange(10) < 3
    assert log_likelihood_ratio_cost(np.zeros(10), targets) == 1
    assert minimum_likelihood_ratio_cost(np.zeros(10), targets) == pytest.approx(1)
    scores = targets.astype(np.float64)
    assert minimum_likelihood_ratio_cost(scores, targets) == 0
    assert minimum_likelihood_ratio_cost(-scores, targets) == pytest.approx(1)
    # Neither many bits nor an overflow.
    assert log_likelihood_ratio_cost(np.where(targets, 1e4, -1e4), targets) == 0


def test_true_ratios_of_normal_scores_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(400_000) % 2 == 0
    # Of N(d/2, d) against N(-d/2, d), with d = 4, the score is its own log-likelihood ratio.
    ratios = generator.normal(np.where(targets, 2.0, -2.0), 2.0)
    least = minimum_likelihood_ratio_cost(ratios, targets)
    assert log_likelihood_ratio_cost(ratios, targets) == pytest.approx(least, abs=2e-3)
    normal, prior = NormalDist(), 0.05
    threshold = math.log((1 - prior) / prior)
    misses, alarms = normal.cdf((threshold - 2) / 2), normal.cdf((-threshold - 2) / 2)
    expected = (prior * misses + (1 - prior) * alarms) / prior
    assert actual_detection_cost(ratios, targets, prior) == pytest.approx(expected, abs=0.02)
