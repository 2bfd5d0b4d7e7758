import itertools
import math

import numpy as np
import pytest

from aalbert.train.evaluation.significance import (
    bootstrap_p_value,
    holm_adjusted,
    mcnemar_p_value,
    mean_interval,
    percentile_interval,
    resampled_ratios,
    resampled_trials,
    share_interval,
    trial_weights,
    wilson_interval,
)


@pytest.mark.parametrize("correct, scored", [(0, 10), (10, 10), (7, 10), (110, 120)])
def test_wilson_ends_where_the_score_test_just_rejects(correct: int, scored: int) -> None:
    share = correct / scored
    for bound in wilson_interval(correct, scored):
        if 0 < bound < 1:
            z = (share - bound) / math.sqrt(bound * (1 - bound) / scored)
            assert abs(z) == pytest.approx(1.959964, abs=1e-5)
    assert all(0 <= bound <= 1 for bound in wilson_interval(correct, scored))


def test_wilson_agrees_with_a_published_figure() -> None:
    # Newcombe 1998, table I: 81 of 263, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_resampling_whole_clusters_equals_every_resample_there_is() -> None:
    correct, scored = np.array([3, 1, 0]), np.array([4, 4, 2])
    every = [
        sum(correct[c] for c in drawn) / sum(scored[c] for c in drawn)
        for drawn in itertools.product(range(3), repeat=3)
    ]
    values = resampled_ratios(correct, scored, np.arange(3), seed=0)
    assert set(np.round(values, 9)) == set(np.round(every, 9))
    assert values.mean() == pytest.approx(np.mean(every), abs=0.01)
    assert values.std() == pytest.approx(np.std(every), abs=0.01)


def test_utterances_that_fall_together_make_the_interval_wider() -> None:
    correct = np.repeat([1, 1, 1, 0, 1, 1, 0, 1], 25)
    alone = share_interval(correct, np.ones(200, int), np.arange(200))
    together = share_interval(correct, np.ones(200, int), np.arange(200) // 25)
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_an_interval_has_a_width_even_when_everything_is_correct_or_wrong() -> None:
    ones = np.ones(20, int)
    assert share_interval(ones, ones, np.arange(20)) == (wilson_interval(20, 20)[0], 1.0)
    assert share_interval(0 * ones, ones, np.arange(20)) == (0.0, wilson_interval(0, 20)[1])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        correct = (generator.random(150) < 0.8).astype(int)
        low, high = share_interval(correct, np.ones(150, int), np.arange(150), seed=trial)
        held += low <= 0.8 <= high
    assert held / 60 > 0.88


def test_mcnemar_equals_the_binomial_test_by_enumeration() -> None:
    for first, second in itertools.product(range(7), repeat=2):
        total = first + second
        as_uneven = sum(
            1
            for outcome in itertools.product((0, 1), repeat=total)
            if abs(2 * sum(outcome) - total) >= abs(first - second)
        )
        assert mcnemar_p_value(first, second) == pytest.approx(as_uneven / 2**total)


def test_mcnemar_takes_thousands_of_utterances() -> None:
    assert mcnemar_p_value(1500, 1500) == 1
    # The normal approximation is close here: z = (1600 - 1400 - 1) / sqrt(3000).
    assert mcnemar_p_value(1400, 1600) == pytest.approx(math.erfc(199 / math.sqrt(6000)), rel=0.01)
    assert 0 < mcnemar_p_value(0, 1000) < 1e-300


def test_a_trial_is_weighted_by_the_copies_of_its_speakers() -> None:
    drawn = np.array([2, 0, 3])
    left, right = np.array([0, 0, 0, 2, 1]), np.array([0, 1, 2, 2, 1])
    assert trial_weights(drawn, left, right).tolist() == [2, 0, 6, 3, 0]


def test_resamples_without_trials_of_both_kinds_are_left_out() -> None:
    left, right = np.array([0, 1, 0]), np.array([0, 1, 1])
    values = resampled_trials(lambda weights: weights.sum(), left, right, left == right, 0, 400)
    # Only drawing both speakers leaves the trial between them: half of all resamples.
    assert set(values) == {3.0}
    assert len(values) == pytest.approx(200, abs=40)


def test_the_p_value_of_a_bootstrap_is_never_zero_and_at_most_one() -> None:
    assert bootstrap_p_value(np.full(999, 0.1)) == 2 / 1000
    assert bootstrap_p_value(np.zeros(999)) == 1
    values = np.linspace(-1, 3, 999)
    assert bootstrap_p_value(values) == pytest.approx(0.5, abs=0.01)


def test_p_values_grow_with_the_number_of_tests() -> None:
    # Holm 1979: 0.01 * 4, 0.02 * 3, 0.03 * 2, and never below the one before.
    assert holm_adjusted([0.03, 0.01, 0.02, 0.04]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm_adjusted([0.6]) == [0.6]
    assert holm_adjusted([0.9, 0.8]) == [1.0, 1.0]


def test_the_percentile_interval_leaves_a_fortieth_on_each_side() -> None:
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25, 975))


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(100):
        errors = generator.exponential(2.0, size=100)
        low, high = mean_interval(errors, np.ones(100, int), np.arange(100), seed=trial)
        covered += low < 2.0 < high
    assert 0.89 < covered / 100 < 0.99


def test_the_interval_of_a_mean_over_one_session_is_that_of_its_entries() -> None:
    errors = np.array([1.0, 2.0, 3.0, 6.0])
    low, high = mean_interval(errors, np.ones(4, int), np.zeros(4, int))
    assert (low, high) == pytest.approx(
        (3 - 1.96 * errors.std() / 2, 3 + 1.96 * errors.std() / 2), 1e-3
    )


def test_a_rate_of_errors_above_one_has_the_interval_of_the_bootstrap() -> None:
    errors, phones = np.array([12, 3, 20]), np.array([10, 10, 10])
    low, high = share_interval(errors, phones, np.arange(3))
    assert (low, high) == percentile_interval(resampled_ratios(errors, phones, np.arange(3), 0))
    assert high > 1
