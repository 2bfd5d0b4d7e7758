from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aalbert.common.configuration import load_config
from aalbert.errors import InputError
from aalbert.models import HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.config import (
    DownstreamConfig,
    SplitConfig,
    TrialConfig,
)
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.scoring import Trials
from aalbert.train.downstream.splits import read_list
from aalbert.train.downstream.trial_splits import verification_splits
from aalbert.train.downstream.trials import read_trials
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.preset import read_preset
from aalbert.train.run_folder import RunFolder

# Batches are read in the process itself: starting another one takes longer than these runs.
QUICK = DownstreamConfig(epochs=1, learning_rate=1e-2, prefetch=0)
# Two of the three training utterances of each speaker, so that there are trials of one speaker.
SPEAKERS = SplitConfig(dev="drawn", drawn_proportion=0.6)


@pytest.fixture(scope="module")
def trial_list(voxceleb1_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of the test split, which has two utterances of each of four speakers."""
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["test"])
    speakers = dataset.column("speaker")
    path = tmp_path_factory.mktemp("trials") / "veri_test.txt"
    lines = [
        f"{int(speakers[one] == speakers[other])} {dataset.key(one)} {dataset.key(other)}"
        for one in rows
        for other in rows
        if one < other
    ]
    path.write_text("\n".join(lines))
    return path


def test_verification_without_training_scores_the_trials_by_cosine(
    voxceleb1_data: Path, trial_list: Path, verification: DownstreamConfig, tmp_path: Path
) -> None:
    trials = replace(verification.trials, test=str(trial_list))
    config = replace(verification, trials=trials)
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    measured = measure(open_run(RunFolder(tmp_path / "run")))
    outcome = measured.outcome
    assert isinstance(outcome, Trials) and len(outcome.scores) == 28
    # The same from the stored features: normalised, averaged, centred, compared.
    dataset = Dataset(voxceleb1_data)
    train = measured.rows["train"]
    everything = np.concatenate([dataset.features(int(row), "logmel") for row in train])
    mean, std = everything.astype(np.float64).mean(0), everything.astype(np.float64).std(0)
    means = {
        row: ((dataset.features(row, "logmel").astype(np.float64) - mean) / std).mean(0)
        for row in [*train.tolist(), *dataset.rows(["test"]).tolist()]
    }
    centre = np.mean([means[row] for row in train], axis=0)
    for left, right, score in zip(outcome.left, outcome.right, outcome.scores, strict=True):
        one, other = means[int(left)] - centre, means[int(right)] - centre
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert score == pytest.approx(cosine, abs=1e-3)


def test_verification_learns_from_speakers_that_no_trial_has(
    voxceleb1_data: Path, trial_list: Path, pretrained: Path, tmp_path: Path
) -> None:
    head = HeadConfig(trunk="xvector", pooling="statistics", hidden=(16,), classifier="cosine")
    trials = TrialConfig(test=str(trial_list), dev_count=8)
    config = replace(
        QUICK, task="voxceleb1-verification", head=head, trials=trials, splits=SPEAKERS
    )
    with pytest.raises(InputError, match="every speaker of the split 'train' is in the trials"):
        start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "none-left")
    known = replace(config, trials=replace(trials, known_speakers=True))
    start_downstream(known, voxceleb1_data, str(pretrained), tmp_path / "run")
    measured = measure(open_run(RunFolder(tmp_path / "run")))
    assert isinstance(measured.outcome, Trials) and np.isfinite(measured.outcome.scores).all()
    tested = set(measured.rows["test"].tolist())
    assert not tested & set([*measured.rows["train"].tolist(), *measured.rows["dev"].tolist()])


def test_lists_from_any_editor_are_read_alike(
    voxceleb1_data: Path, trial_list: Path, tmp_path: Path
) -> None:
    dataset, other = Dataset(voxceleb1_data), tmp_path / "list.txt"
    expected = read_trials(str(trial_list), dataset)
    other.write_text(trial_list.read_text() + "\n", "utf-8-sig", newline="\r\n")
    found = read_trials(str(other), dataset)
    assert found.left.tolist() == expected.left.tolist()
    assert found.same.tolist() == expected.same.tolist()
    rows = np.arange(len(dataset))
    other.write_text(f"{dataset.key(3)}\n{dataset.key(5)}\n", "utf-16", newline="\r\n")
    assert read_list(str(other), dataset, rows).tolist() == [3, 5]


def test_an_xvector_is_calibrated_on_speakers_that_it_was_not_trained_on(
    cohort_data: Path,
) -> None:
    task, tested = "voxceleb1-verification", "trials.test=veri_test.txt"
    config = load_config(
        DownstreamConfig,
        preset=read_preset("xvector-normalised", task),
        assignments=[f"task={task}", tested, "splits.drawn_proportion=0.4"],
    )
    dataset = Dataset(cohort_data)
    splits = verification_splits(config, dataset, read_trials("veri_test.txt", dataset))
    speakers = np.array(dataset.column("speaker"))
    assert not set(speakers[splits.train]) & set(speakers[splits.dev])
