from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.models import PretrainedModel, SpeakerClassifier
from aalbert.shards import Batch, Dataset, Loader
from aalbert.train.configs import DownstreamConfig
from aalbert.train.downstream import start_downstream
from aalbert.train.identification import (
    bootstrap_interval,
    evaluation_loader,
    find_speakers,
    name_classes,
    score,
)
from aalbert.train.run_folder import RunFolder
from aalbert.train.upstreams import open_upstream

QUICK = DownstreamConfig(epochs=2)


def test_the_frozen_encoder_is_saved_as_it_was(speaker_run: Path, pretrained: Path) -> None:
    before = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()
    after = SpeakerClassifier.from_pretrained(speaker_run).upstream.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_head_that_is_kept_is_the_best_on_dev(speaker_run: Path, voxceleb1_data: Path) -> None:
    model = SpeakerClassifier.from_pretrained(speaker_run)
    dataset = Dataset(voxceleb1_data)
    speakers = name_classes(dataset, model.speakers)
    loader = evaluation_loader(dataset, speakers.rows(dataset, "dev"), "logmel", 60, 0)
    scores = score(model, loader, speakers)
    measured = [row for row in RunFolder(speaker_run).read_metrics() if "dev_loss" in row]
    best = max((row["dev_accuracy"], -row["dev_loss"]) for row in measured)
    assert (scores.accuracy(), -scores.loss) == pytest.approx(best)


def test_training_never_reads_the_test_split(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_rows = set(Dataset(voxceleb1_data).rows(["test"]).tolist())
    read: set[int] = set()
    original = Loader.__iter__

    def note(self: Loader) -> Iterator[Batch]:
        for batch in original(self):
            read.update(batch.rows.tolist())
            yield batch

    monkeypatch.setattr(Loader, "__iter__", note)
    start_downstream(QUICK, voxceleb1_data, str(pretrained), tmp_path / "run")
    assert read and not read & test_rows


def test_scores_of_a_batch_equal_scores_one_by_one(speaker_run: Path, voxceleb1_data: Path) -> None:
    model = SpeakerClassifier.from_pretrained(speaker_run)
    dataset = Dataset(voxceleb1_data)
    speakers = name_classes(dataset, model.speakers)
    rows = speakers.rows(dataset, "test")
    together, alone = (
        score(model, evaluation_loader(dataset, rows, "logmel", seconds, 0), speakers)
        for seconds in (60, 0.01)
    )
    assert together.rows.tolist() == alone.rows.tolist()
    torch.testing.assert_close(together.scores, alone.scores, atol=1e-4, rtol=0)


def test_the_baseline_is_the_stored_feature_normalised_over_the_training_split(
    voxceleb1_data: Path,
) -> None:
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["train"])
    upstream = open_upstream("logmel", dataset, rows, untrained=False, seed=0)
    frames = [torch.from_numpy(dataset.features(int(row), "logmel").copy()) for row in rows]
    everything = torch.cat(frames).double()
    states, _ = upstream(frames[0].unsqueeze(0), torch.tensor([len(frames[0])]))
    expected = (frames[0].double() - everything.mean(0)) / everything.std(0, unbiased=False)
    torch.testing.assert_close(states[0][0].double(), expected, atol=1e-3, rtol=0)


def test_the_untrained_twin_has_other_weights_and_the_same_front_end(
    voxceleb1_data: Path, pretrained: Path
) -> None:
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["train"])
    trained, untrained, again = (
        open_upstream(str(pretrained), dataset, rows, untrained=flag, seed=0).state_dict()
        for flag in (False, True, True)
    )
    assert torch.equal(trained["front_end.mean"], untrained["front_end.mean"])
    weights = "encoder.projection.weight"
    assert not torch.equal(trained[weights], untrained[weights])
    assert torch.equal(untrained[weights], again[weights])


def test_a_stopped_run_resumes_to_the_same_head(
    speaker_run: Path,
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os
    import signal

    from aalbert.errors import InterruptedRunError
    from aalbert.train.downstream import resume_downstream
    from aalbert.train.step_log import StepLog

    original = StepLog.on_train_batch_end

    def signal_once(self: StepLog, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    monkeypatch.setattr(StepLog, "on_train_batch_end", signal_once)
    with pytest.raises(InterruptedRunError, match="stopped by SIGINT"):
        start_downstream(DownstreamConfig(epochs=3), voxceleb1_data, str(pretrained), out)
    monkeypatch.undo()
    resume_downstream(out)
    resumed, whole = (
        SpeakerClassifier.from_pretrained(run).head.state_dict() for run in (out, speaker_run)
    )
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_what_does_not_fit_is_refused_with_the_way_out(
    voxceleb1_data: Path, librispeech_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has no split 'train': it has train-clean-100"):
        start_downstream(QUICK, librispeech_data, str(pretrained), tmp_path / "a")
    with pytest.raises(ConfigError, match="has no feature 'fbank': it has logmel"):
        start_downstream(QUICK, voxceleb1_data, "fbank", tmp_path / "b")
    with pytest.raises(ConfigError, match="--untrained needs an encoder"):
        start_downstream(replace(QUICK, untrained=True), voxceleb1_data, "logmel", tmp_path / "c")
    with pytest.raises(InputError, match="there is no folder .*nowhere"):
        start_downstream(QUICK, voxceleb1_data, str(tmp_path / "nowhere"), tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_speakers_without_training_data_are_named(
    voxceleb1_data: Path, librispeech_data: Path
) -> None:
    dataset = Dataset(voxceleb1_data)
    speakers = name_classes(dataset, ["id10001"])
    with pytest.raises(InputError, match="by speakers without training data, for example 'id1000"):
        speakers.rows(dataset, "test")
    assert find_speakers(dataset, "train").names == [f"id1000{n}" for n in (1, 2, 3, 4)]


def test_the_bootstrap_interval_agrees_with_resampling_by_hand() -> None:
    correct = [True] * 70 + [False] * 30
    draws = torch.randint(100, (4000, 100), generator=torch.Generator().manual_seed(0))
    means = torch.tensor(correct).float()[draws].mean(dim=1)
    expected = torch.quantile(means, torch.tensor([0.025, 0.975])).tolist()
    assert bootstrap_interval(correct) == pytest.approx(expected, abs=0.02)


def test_features_that_the_model_does_not_expect_are_listed_line_by_line(
    pretrained: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["downstream", "voxceleb1", "--data", str(prepared), "--upstream", str(pretrained)]
    assignments = ["--set", "train_split=train-clean-100", "--out", str(tmp_path / "run")]
    assert main([*command, *assignments]) == 2
    first, *details = capsys.readouterr().err.splitlines()
    assert first.endswith(f" than {prepared} has: prepare the data with the model's settings")
    assert details == ["  mels: expected 20, found 80"]
    assert not list(tmp_path.iterdir())
