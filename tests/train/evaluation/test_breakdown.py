from dataclasses import replace

import numpy as np

from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.breakdown import (
    ConfusedPair,
    class_results,
    duration_labels,
    duration_order,
    eer_by,
    gender_labels,
    most_confused,
    most_unpaired,
    tally_by,
    worst_classes,
)
from tests.confusions import confusion_of

NAMES = ["ann", "bob", "eve", "dan"]
# ann 3 of 4; bob 1 of 4, twice predicted as eve; eve 2 of 3; dan was never tested.
CONFUSION = confusion_of([[3, 1, 0, 0], [1, 1, 2, 0], [0, 1, 2, 0], [0, 0, 0, 0]])
DECISIONS = Decisions(
    names=NAMES,
    rows=np.arange(5),
    scored=np.array([1, 1, 1, 1, 1]),
    correct=np.array([1, 0, 1, 1, 0]),
    confusion=CONFUSION,
)


def test_durations_fall_into_ranges_that_include_their_lower_end() -> None:
    seconds = np.array([0.5, 2.0, 3.9, 4.0, 19.9, 20.0])
    labels = duration_labels(seconds)
    assert labels[0] == "under 2 s" and labels[-1] == "20 s or more"
    assert labels[1:5] == ["2 to 4 s", "2 to 4 s", "4 to 6 s", "12 to 20 s"]
    assert sorted(set(labels), key=duration_order) == list(dict.fromkeys(labels))


def test_genders_are_words_and_unknown_ones_stay() -> None:
    assert gender_labels(["m", "F", "nonbinary", None, ""]) == [
        "male",
        "female",
        "nonbinary",
        None,
        None,
    ]


def test_tally_by_label_counts_only_its_own_utterances() -> None:
    labels = ["male", "male", None, "female", "male"]
    female, male = tally_by(labels, DECISIONS, np.arange(5))
    assert (female.name, female.items, female.value) == ("female", 1, 1.0)
    assert (male.name, male.items, round(male.value, 4)) == ("male", 3, 0.3333)
    assert male.interval_95 is not None and male.interval_95[0] < 1 / 3 < male.interval_95[1]


def test_a_single_number_has_no_interval() -> None:
    numbers = Numbers(rows=np.arange(3), true=np.array([1.0, 2, 4]), predicted=np.zeros(3))
    one, two = tally_by(["one", "two", "two"], numbers, np.array([0, 1, 2]))
    assert (one.value, one.interval_95) == (1.0, None)
    assert two.value == 3.0 and two.interval_95 is not None


def test_the_error_rate_by_label_needs_trials_of_both_kinds() -> None:
    trials = Trials(
        left=np.arange(5),
        right=np.arange(5),
        same=np.array([True, False, True, False, True]),
        scores=np.array([2.0, 1.0, 0.0, 1.0, 0.0]),
    )
    (good, bad) = eer_by(["a", "a", "b", "b", None], trials)
    assert (good.name, good.items, good.value) == ("a", 2, 0.0)
    assert (bad.name, bad.items, bad.value) == ("b", 2, 1.0)
    assert eer_by(["c", None, None, None, "c"], trials) == []


def test_classes_are_listed_from_the_lowest_accuracy() -> None:
    results = class_results(NAMES, CONFUSION)
    assert [(each.name, each.items, each.accuracy, each.confused_with) for each in results] == [
        ("bob", 4, 0.25, "eve"),
        ("eve", 3, 0.666667, "bob"),
        ("ann", 4, 0.75, "bob"),
    ]


def test_the_most_confused_pair_comes_first() -> None:
    first, *rest = most_confused(NAMES, CONFUSION)
    assert first == ConfusedPair(true="bob", predicted="eve", items=2, share=0.5)
    assert [(pair.true, pair.predicted) for pair in rest] == [
        ("ann", "bob"),
        ("bob", "ann"),
        ("eve", "bob"),
    ]
    assert len(most_confused(NAMES, CONFUSION, limit=2)) == 2


def test_items_without_a_counterpart_are_listed_apart_and_count_as_errors() -> None:
    confusion = replace(CONFUSION, deleted=np.array([1, 0, 4, 2]))
    deleted = most_unpaired(NAMES, confusion.deleted)
    assert [(each.name, each.items) for each in deleted] == [("eve", 4), ("dan", 2), ("ann", 1)]
    assert len(most_unpaired(NAMES, confusion.deleted, limit=2)) == 2
    assert most_unpaired(NAMES, confusion.inserted) == ()
    found = {each.name: each for each in class_results(NAMES, confusion)}
    assert (found["ann"].items, found["ann"].accuracy) == (5, 0.6)
    assert (found["dan"].accuracy, found["dan"].confused_with) == (0.0, None)


def test_the_worst_classes_come_with_those_they_are_confused_with() -> None:
    assert worst_classes(CONFUSION, limit=2).tolist() == [1, 2]
    assert worst_classes(CONFUSION, limit=10).tolist() == [0, 1, 2]
    assert worst_classes(confusion_of(np.eye(3)), limit=2).tolist() == [0, 1]
