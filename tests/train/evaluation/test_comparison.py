from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.errors import ConfigError
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.comparison import compare
from aalbert.train.evaluation.significance import mcnemar_p_value
from tests.confusions import confusion_of


def decisions(correct: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> Decisions:
    ones = np.ones_like(correct)
    return Decisions(
        names=["a", "b"],
        rows=np.arange(len(correct)) if rows is None else rows,
        scored=ones,
        correct=correct,
        confusion=confusion_of(np.zeros((2, 2))),
        true=ones,
        predicted=correct,
    )


def trials(scores: NDArray[np.float64]) -> Trials:
    left, right = np.triu_indices(12, k=1)
    return Trials(left=left, right=right, same=left // 3 == right // 3, scores=scores)


def test_a_better_run_differs_by_its_points_and_the_test_says_so() -> None:
    first, second = np.arange(200) % 2, np.where(np.arange(200) % 10, 1, 0)
    (comparison,) = compare(["one", "two"], [decisions(first), decisions(second)], np.arange(200))
    assert comparison.reference == "one" and comparison.run == "two"
    assert comparison.difference == pytest.approx(0.4)
    assert 0.25 < comparison.interval_95[0] < 0.4 < comparison.interval_95[1] < 0.55
    # 80 utterances that only the second classifies correctly, none that only the first does.
    assert comparison.mcnemar_p == mcnemar_p_value(0, 80)
    assert comparison.bootstrap_p < 0.002


def test_a_run_does_not_differ_from_itself() -> None:
    correct = np.arange(50) % 3 // 2
    (comparison,) = compare(["one", "two"], [decisions(correct), decisions(correct)], np.arange(50))
    assert comparison.difference == 0 and comparison.interval_95 == (0, 0)
    assert comparison.mcnemar_p == 1 and comparison.bootstrap_p == 1


def test_a_lead_in_two_sessions_is_less_sure_than_one_in_many() -> None:
    first, second = np.zeros(40, int), np.where(np.arange(40) < 20, 1, 0)
    few = compare(["a", "b"], [decisions(first), decisions(second)], np.arange(40) // 20)[0]
    many = compare(["a", "b"], [decisions(first), decisions(second)], np.arange(40))[0]
    assert few.bootstrap_p > 0.4 and many.bootstrap_p < 0.002
    assert few.mcnemar_p == many.mcnemar_p


def test_p_values_account_for_the_number_of_runs() -> None:
    first, second = np.zeros(40, int), np.where(np.arange(40) < 8, 1, 0)
    outcomes = [decisions(first), decisions(second), decisions(second)]
    alone = compare(["a", "b"], outcomes[:2], np.arange(40))[0]
    both = compare(["a", "b", "c"], outcomes, np.arange(40))
    assert alone.mcnemar_p is not None
    assert [each.mcnemar_p for each in both] == pytest.approx([2 * alone.mcnemar_p] * 2)


def test_decisions_in_another_order_are_the_same_once_their_rows_rise() -> None:
    correct, order = np.arange(30) % 2, np.random.default_rng(0).permutation(30)
    shuffled = decisions(correct[order], rows=order).in_row_order()
    assert shuffled.rows.tolist() == list(range(30))
    assert compare(["a", "b"], [decisions(correct), shuffled], np.arange(30))[0].difference == 0


def test_utterances_without_any_label_are_left_out() -> None:
    some = decisions(np.array([1, 0, 1]), rows=np.array([5, 3, 4]))
    some.scored[1] = 0
    assert some.in_row_order().rows.tolist() == [4, 5]
    assert some.in_row_order().value == 1


def test_trials_are_compared_over_the_same_resamples_of_speakers() -> None:
    generator = np.random.default_rng(3)
    noise = generator.normal(size=66)
    left, right = np.triu_indices(12, k=1)
    good = 2.0 * (left // 3 == right // 3) + noise
    speakers = np.arange(12) // 3
    better, same = (
        compare(["a", "b"], [trials(noise), trials(scores)], speakers)[0]
        for scores in (good, noise)
    )
    assert better.difference < -0.2 and better.interval_95[1] < 0
    assert better.mcnemar_p is None
    assert same.difference == 0 and same.bootstrap_p == 1


def by_time(scored: list[int], correct: list[int], stacked: int) -> Decisions:
    """Decisions about label frames, of which `stacked` make one frame of the run."""
    labels, right = np.array(scored), np.array(correct)
    return Decisions(
        names=["a", "b"],
        rows=np.arange(len(scored)),
        scored=labels // stacked,
        correct=right // stacked,
        confusion=confusion_of(np.zeros((2, 2))),
        scored_by_time=labels,
        correct_by_time=right,
    )


def test_runs_of_other_frame_rates_are_compared_over_label_frames() -> None:
    scored, few, many = [30, 60, 90, 20], [10, 20, 31, 9], [20, 41, 62, 15]
    reference, run = by_time(scored, few, 1), by_time(scored, many, 3)
    (comparison,) = compare(["one", "two"], [reference, run], np.arange(4))
    assert comparison.reference_by_time == pytest.approx(70 / 200)
    assert comparison.accuracy_by_time == pytest.approx(138 / 200)
    assert comparison.difference == pytest.approx(68 / 200)
    low, high = comparison.interval_95
    gains = (np.array(many) - few) / scored
    assert gains.min() <= low < 68 / 200 < high <= gains.max()
    assert comparison.mcnemar_p is None


def test_runs_of_one_frame_rate_are_compared_over_their_own_frames() -> None:
    scored, few, many = [30, 60, 90, 21], [9, 21, 30, 9], [21, 42, 63, 15]
    runs = [by_time(scored, right, 3) for right in (few, many)]
    (comparison,) = compare(["one", "two"], runs, np.arange(4))
    assert comparison.accuracy_by_time is None and comparison.reference_by_time is None
    assert comparison.difference == pytest.approx((47 - 23) / 67, abs=1e-6)


def test_runs_on_other_labels_are_refused() -> None:
    reference, run = by_time([30, 60], [10, 20], 1), by_time([30, 61], [10, 20], 3)
    with pytest.raises(ConfigError, match="two was tested on other utterances than one"):
        compare(["one", "two"], [reference, run], np.arange(2))


def test_runs_with_other_true_labels_of_the_same_utterances_are_refused() -> None:
    rows, one = np.arange(4), np.ones(4, np.int64)

    def numbers(true: list[float]) -> Numbers:
        return Numbers(rows=rows, true=np.array(true), predicted=np.zeros(4))

    def recognised(phones: str) -> Recognised:
        return Recognised(
            names=["AH"],
            rows=rows,
            scored=one,
            substitutions=one,
            deletions=one,
            insertions=one,
            too_short=np.zeros(4, np.bool_),
            true=np.array([phones] * 4, object),
            predicted=np.array([phones] * 4, object),
            confusion=confusion_of(np.zeros((1, 1))),
        )

    classes, frames = decisions(one), by_time([30] * 4, [10] * 4, 1)
    for first, second in (
        (numbers([1, 2, 3, 4]), numbers([1, 2, 3, 5])),
        (recognised("AH0"), recognised("AH")),
        (classes, replace(classes, true=one - 1)),
        (classes, replace(classes, names=["a", "c"])),
        (frames, replace(frames, names=["a", "c"])),
        (
            replace(frames, label_checksums=np.array([5, 6, 7, 8])),
            replace(frames, label_checksums=np.array([5, 6, 7, 9])),
        ),
        # Of frames, and of whole utterances.
        (frames, classes),
        (classes, frames),
    ):
        with pytest.raises(ConfigError, match="two has other true labels than one, of the same ut"):
            compare(["one", "two"], [first, second], rows)
        assert len(compare(["one", "two"], [first, first], rows)) == 1


def test_runs_on_other_utterances_are_refused() -> None:
    correct = np.ones(5, int)
    other = decisions(correct, rows=np.arange(1, 6))
    with pytest.raises(ConfigError, match="two was tested on other utterances than one"):
        compare(["one", "two"], [decisions(correct), other], np.arange(6))
