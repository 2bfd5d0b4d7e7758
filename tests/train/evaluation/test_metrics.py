from pathlib import Path

import numpy as np
import pytest

from aalbert.shards import Dataset
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.metrics import (
    Clusters,
    clusters_for,
    metric_of,
    number_clusters,
    sessions,
    speakers,
)
from aalbert.train.evaluation.significance import wilson_interval
from tests.confusions import confusion_of

CORRECT = np.array([1, 0, 1, 1])
DECISIONS = Decisions(
    names=["a", "b"],
    rows=np.array([3, 4, 5, 9]),
    scored=np.ones(4, int),
    correct=CORRECT,
    confusion=confusion_of([[2, 1], [0, 1]]),
    true=np.zeros(4, int),
    predicted=np.zeros(4, int),
    top_5=np.array([True, True, True, False]),
)


def test_the_metric_of_decisions_is_their_accuracy() -> None:
    clusters = Clusters("video", np.array([0, 0, 0, 7, 7, 8, 0, 0, 0, 9]))
    metric = metric_of(DECISIONS, clusters, {"guessing": 0.5}, seed=0)
    assert (metric.name, metric.value, metric.higher_is_better) == ("accuracy", 0.75, True)
    assert metric.resampled == "3 videos"
    assert metric.further == {"top-5 accuracy": 0.75}
    wilson = wilson_interval(3, 4)
    assert metric.interval_95[0] <= wilson[0] + 1e-6 and metric.interval_95[1] == 1


def test_frames_count_by_their_number_and_are_called_so() -> None:
    frames = Decisions(
        names=["a", "b"],
        rows=np.arange(3),
        scored=np.array([100, 10, 90]),
        correct=np.array([90, 0, 10]),
        confusion=confusion_of([[90, 10], [90, 10]]),
    )
    metric = metric_of(frames, Clusters("utterance", np.arange(3)), {}, seed=0)
    assert (metric.name, metric.value) == ("frame accuracy", 0.5)
    assert metric.resampled == "3 utterances" and metric.further == {}
    # Whole utterances are drawn: from the worst alone to the best alone.
    assert metric.interval_95 == (0.0, 0.9)


def test_the_metric_of_trials_is_their_equal_error_rate() -> None:
    left, right = np.triu_indices(9, k=1)
    same = left // 3 == right // 3
    trials = Trials(left=left, right=right, same=same, scores=same.astype(float))
    metric = metric_of(trials, Clusters("speaker", np.arange(9) // 3), {"guessing": 0.5}, seed=0)
    assert (metric.name, metric.value, metric.higher_is_better) == ("equal error rate", 0, False)
    assert metric.resampled == "3 speakers"
    assert metric.further == {"minDCF 0.01": 0, "minDCF 0.05": 0, "min Cllr": 0}
    # Without an error only Wilson knows how little nine trials prove.
    assert metric.interval_95[1] == pytest.approx(wilson_interval(0, 9)[1], abs=1e-6)


def test_a_session_is_one_speakers_video(voxceleb1_data: Path) -> None:
    dataset = Dataset(voxceleb1_data)
    found = sessions(dataset)
    assert found.kind == "video"
    keys = [dataset.key(row) for row in range(len(dataset))]
    for row, key in enumerate(keys):
        alike = [other for other in keys if other.rsplit("-", 1)[0] == key.rsplit("-", 1)[0]]
        own = np.flatnonzero(found.of_row == found.of_row[row])
        assert [keys[place] for place in own] == alike
    assert len(set(speakers(dataset).of_row.tolist())) == 4
    assert clusters_for(DECISIONS, dataset).kind == "video"


def test_rows_without_a_session_or_a_speaker_are_alone() -> None:
    found = number_clusters("video", ["b", None, "a", "", "b", None])
    assert found.kind == "video" and len(set(found.of_row.tolist())) == 5
    assert found.of_row[0] == found.of_row[4]
    # Named clusters in the order of their names, rows without one in their own.
    assert found.of_row.tolist() == [1, 2, 0, 3, 1, 4]
    alone = number_clusters("utterance", [None] * 12)
    assert alone.of_row.tolist() == list(range(12))


def test_calibrated_trials_have_actual_costs_beside_the_least_ones() -> None:
    left, right = np.triu_indices(9, k=1)
    same = left // 3 == right // 3
    scores = np.where(same, 2.0, -2.0)
    trials = Trials(left=left, right=right, same=same, scores=scores, calibrated=True)
    metric = metric_of(trials, Clusters("speaker", np.arange(9) // 3), {}, seed=0)
    # Both Bayes thresholds, log 99 and log 19, lie above 2: all is rejected, at a cost of one.
    assert metric.further == {
        **{"minDCF 0.01": 0, "minDCF 0.05": 0, "actDCF 0.01": 1, "actDCF 0.05": 1},
        **{"min Cllr": 0, "Cllr": pytest.approx(np.log2(1 + np.exp(-2)), abs=1e-6)},
    }
