from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.models import DownstreamModel, HeadConfig, PretrainedModel
from aalbert.shards import Batch, Dataset, Loader
from aalbert.train.downstream.config import DownstreamConfig, Mode
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.module import HeadTraining
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.scoring import gather, outputs_of_batches, whole_utterances
from aalbert.train.downstream.upstream import open_upstream
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.evaluation.open_run import on_part, open_run
from aalbert.train.run_folder import RunFolder

QUICK = DownstreamConfig(epochs=2, prefetch=0)


def test_the_frozen_encoder_is_saved_as_it_was(speaker_run: Path, pretrained: Path) -> None:
    before = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()
    after = DownstreamModel.from_pretrained(speaker_run).upstream.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_head_that_is_kept_is_the_best_on_dev(speaker_run: Path) -> None:
    measured = measure(on_part(open_run(RunFolder(speaker_run)), "dev"))
    assert isinstance(measured.outcome, Decisions)
    rows = [row for row in RunFolder(speaker_run).read_metrics() if "dev_loss" in row]
    best = max(row["dev_accuracy"] for row in rows)
    assert measured.outcome.value == pytest.approx(best)


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
    model, dataset = DownstreamModel.from_pretrained(speaker_run), Dataset(voxceleb1_data)
    inputs, rows = Inputs(dataset, model.upstream.config), dataset.rows(["test"])
    together, alone = (
        gather(outputs_of_batches(model, loader, model.head.embed), dataset.key)
        for loader in (whole_utterances(inputs, rows, each, 0) for each in (60, 0.01))
    )
    assert together[0].tolist() == alone[0].tolist()
    torch.testing.assert_close(together[1], alone[1], atol=1e-4, rtol=0)


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


@pytest.mark.slow
@pytest.mark.parametrize("standardise", [False, True])
def test_a_stopped_run_resumes_to_the_same_head(
    standardise: bool,
    speaker_run: Path,
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os
    import signal

    from aalbert.errors import InterruptedRunError
    from aalbert.train.downstream.run import resume_downstream
    from aalbert.train.loop.step_log import StepLog

    original = StepLog.on_train_batch_end

    def signal_once(self: StepLog, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    out, reference = tmp_path / "run", speaker_run
    config = DownstreamConfig(epochs=3, head=HeadConfig(standardise=standardise))
    if standardise:
        reference = tmp_path / "whole"
        start_downstream(config, voxceleb1_data, str(pretrained), reference)
    monkeypatch.setattr(StepLog, "on_train_batch_end", signal_once)
    with pytest.raises(InterruptedRunError, match="stopped by SIGINT"):
        start_downstream(config, voxceleb1_data, str(pretrained), out)
    monkeypatch.undo()
    resume_downstream(out, "voxceleb1")
    resumed, whole = (
        DownstreamModel.from_pretrained(run).head.state_dict() for run in (out, reference)
    )
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("mode", "trained"), [("frozen", False), ("fine-tuned", True), ("from-scratch", True)]
)
def test_an_encoder_that_is_trained_has_dropout_from_the_first_step_on(
    mode: Mode,
    trained: bool,
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though its states were computed without, to standardise them."""
    modes = []
    step = HeadTraining.training_step

    def note(self: HeadTraining, *batch: Any) -> torch.Tensor:
        modes.append((self.model.training, self.model.upstream.training))
        return step(self, *batch)

    monkeypatch.setattr(HeadTraining, "training_step", note)
    head = HeadConfig(standardise=True)
    config = replace(QUICK, mode=mode, head=head)
    start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "run")
    assert set(modes) == {(True, trained)}


def test_what_does_not_fit_is_refused_with_the_way_out(
    voxceleb1_data: Path, librispeech_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no folder hubert: .* task, logmel, .* or s3prl:NAME"):
        start_downstream(QUICK, voxceleb1_data, "hubert", tmp_path / "a")
    named = "has no split '{}': it has train-clean-100; name another with --set splits.{}=SPLIT"
    with pytest.raises(
        ConfigError, match=named.format("train", "train") + "; for librispeech there is "
    ):
        start_downstream(QUICK, librispeech_data, str(pretrained), tmp_path / "a")
    some = replace(QUICK, splits=replace(QUICK.splits, train="train-clean-100"))
    with pytest.raises(
        ConfigError, match=named.format("dev", "dev") + ", or use --set splits.dev=dr"
    ):
        start_downstream(some, librispeech_data, str(pretrained), tmp_path / "a")
    with pytest.raises(ConfigError, match="has no feature 'fbank': it has logmel"):
        start_downstream(QUICK, voxceleb1_data, "fbank", tmp_path / "b")
    with pytest.raises(ConfigError, match="--untrained needs an encoder"):
        start_downstream(replace(QUICK, untrained=True), voxceleb1_data, "logmel", tmp_path / "c")
    with pytest.raises(InputError, match="there is no folder .*nowhere"):
        start_downstream(QUICK, voxceleb1_data, str(tmp_path / "nowhere"), tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_features_that_the_model_does_not_expect_are_listed_line_by_line(
    pretrained: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["downstream", "voxceleb1", "--data", str(prepared), "--upstream", str(pretrained)]
    splits = {"train": "train-clean-100", "dev": "drawn", "test": "drawn"}
    options = [f"--set=splits.{name}={split}" for name, split in splits.items()]
    assignments = [*options, "--out", str(tmp_path / "run")]
    assert main([*command, *assignments]) == 2
    first, *details = capsys.readouterr().err.splitlines()
    assert first.endswith(
        f" than {prepared} has: prepare the data with the model's settings, by 'aalbert prepare' "
        "with --feature logmel --set logmel.mels=20"
    )
    assert details == ["  mels: expected 20, found 80"]
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_not_made_again_by_the_same_command(
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    command = ["downstream", "voxceleb1", "--data", str(voxceleb1_data), "--upstream"]
    command += [str(pretrained), "--out", str(run), "--set", "prefetch=0", "--set", "epochs=2"]
    assert main(command) == 0
    made = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    first = capsys.readouterr()
    assert main(command) == 0
    again = capsys.readouterr()
    assert f"{run} has this run, finished: nothing is left to do" in again.err
    assert again.out == first.out and "next: aalbert evaluate" in again.err
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert main([*command, "--set", "epochs=3"]) == 6
    assert f"{run} holds a run: continue it with --resume" in capsys.readouterr().err
