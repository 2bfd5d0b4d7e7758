import json
import os
import shutil
import signal
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer

from aalbert.cli import main
from aalbert.common.files import file_digest
from aalbert.errors import (
    ConfigError,
    InputError,
    IntegrityError,
    InterruptedRunError,
    OutputInUseError,
)
from aalbert.models import PretrainedModel
from aalbert.models.training_states import is_intact
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.measurements import MetricsWriter
from aalbert.train.pretraining.build import make_loaders, select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.pretraining.start import open_start
from aalbert.train.run_folder import RunFolder
from aalbert.train.run_record import CONTINUED_FROM, START_WEIGHTS


def rows_of(run: Path) -> list[dict[str, float]]:
    """Return the measurements of a run, without the speed, which differs between equal runs."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speed = {"x_real_time", "frames_per_second", "padding_efficiency", "data_wait"}
    return [{name: line[name] for name in line.keys() - speed} for line in lines]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return PretrainedModel.from_pretrained(run).state_dict()


def test_a_run_writes_all_files_of_its_folder(pretrained: Path) -> None:
    names = {path.relative_to(pretrained).as_posix() for path in pretrained.rglob("*.*")}
    assert {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "metrics.csv",
        "export/model.safetensors",
        "export/config.json",
        "export/README.md",
        "checkpoints/step-00000012.ckpt",
        "pictures/step-00000012.png",
    } <= names
    assert not [name for name in names if "partial" in name]
    record = json.loads((pretrained / "run.json").read_text())
    assert record["data_fingerprint"] and record["software"]["torch"] and record["seed"] == 0
    header = (pretrained / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "step,train_loss,learning_rate,x_real_time,frames_per_second,mfu,padding_efficiency,"
        "data_wait,gpu_memory_gib,validation_loss"
    )


def test_validation_runs_at_its_steps_and_the_recorded_rate_is_that_of_the_step(
    pretrained: Path,
) -> None:
    rows = rows_of(pretrained)
    assert [row["step"] for row in rows if "validation_loss" in row] == [4, 8, 12]
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert rates[0] == pytest.approx(1e-3)  # the warm-up of 7 % of 12 steps is one step
    assert rates[-1] == pytest.approx(1e-3 / 11)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    pretrained: Path, librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    ahead = replace(pretrain_config, data=replace(pretrain_config.data, prefetch=4))
    start_pretraining(ahead, [librispeech_data], tmp_path / "same")
    start_pretraining(replace(pretrain_config, seed=1), [librispeech_data], tmp_path / "other")
    assert rows_of(tmp_path / "same") == rows_of(pretrained)
    assert rows_of(tmp_path / "other") != rows_of(pretrained)


@pytest.mark.parametrize(
    "stop_after",
    [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(8, marks=pytest.mark.slow)],
)
def test_a_stopped_run_resumes_bit_for_bit(
    pretrained: Path,
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    out = tmp_path / "run"
    raise_signal_after(monkeypatch, stop_after)
    with pytest.raises(InterruptedRunError, match="stopped by SIGTERM, saved at step") as caught:
        start_pretraining(pretrain_config, [librispeech_data], out)
    assert caught.value.signal_number == signal.SIGTERM
    assert f"continue with: aalbert pretrain --resume --out {out}" in str(caught.value)
    monkeypatch.undo()
    resume_pretraining(out)
    assert rows_of(out) == rows_of(pretrained)
    assert predictors_of(out) == predictors_of(pretrained)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(
            weights_of(out).values(), weights_of(pretrained).values(), strict=True
        )
    )


def predictors_of(run: Path) -> dict[str, float]:
    """Return the held-out losses of trivial predictors in the record of a run."""
    losses: dict[str, float] = RunFolder(run).read_record()["trivial_predictors"]
    return losses


def test_a_run_that_is_not_better_than_interpolation_says_so_and_its_card_has_the_figures(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, loss = tmp_path / "run", rows_of(pretrained)[-1]["validation_loss"]
    shutil.copytree(pretrained, out)
    run, predictors = RunFolder(out), predictors_of(pretrained)
    assert list(predictors) == [
        "linear",
        "interpolation",
        "nearest_frame",
        "utterance_mean",
        "corpus_mean",
    ]
    assert predictors["interpolation"] < loss
    resume_pretraining(out)
    assert f"warning: the held-out loss {loss:.4f} is not below" in capsys.readouterr().err
    card = (out / "export" / "README.md").read_text()
    assert f"| this model | {loss:.4f} |\n" in card
    for name, value in predictors.items():
        assert f"| trivial predictor: {name.replace('_', ' ')} | {value:.4f} |\n" in card
    run.add_to_record({"trivial_predictors": {**predictors, "interpolation": 2 * loss}})
    resume_pretraining(out)
    messages = capsys.readouterr().err
    assert f"the held-out loss {loss:.4f} is below that of interpolating" in messages
    assert "warning" not in messages


def raise_signal_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send SIGTERM to this process after a step, from the callback before `StopOnSignal`."""
    original = SaveStates.on_train_batch_end

    def save_and_signal(self: SaveStates, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SaveStates, "on_train_batch_end", save_and_signal)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    pretrained: Path,
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    raise_signal_after(monkeypatch, 9)
    with pytest.raises(InterruptedRunError):
        start_pretraining(pretrain_config, [librispeech_data], out)
    monkeypatch.undo()
    last = out / "checkpoints" / "step-00000009.ckpt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    resume_pretraining(out)
    assert "step-00000009.ckpt is damaged (checksum)" in capsys.readouterr().err
    assert rows_of(out) == rows_of(pretrained)


def test_a_damaged_state_is_written_again_when_its_step_is_repeated(
    pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(pretrained, out)
    last = out / "checkpoints" / "step-00000012.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    (out / "checkpoints" / "step-00000011.ckpt.partial").touch()
    resume_pretraining(out)
    assert is_intact(last)
    assert not list(out.rglob("*.partial"))
    assert rows_of(out) == rows_of(pretrained)


def test_a_run_is_not_continued_with_another_list_of_what_it_leaves_out(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    listed, keys = tmp_path / "list.txt", Dataset(librispeech_data).table.column("key").to_pylist()
    listed.write_text(keys[3])
    data = replace(pretrain_config.data, exclude=str(listed))
    config = replace(pretrain_config, data=data, steps=2, validate_every_steps=2)
    start_pretraining(config, [librispeech_data], tmp_path / "run")
    resume_pretraining(tmp_path / "run", extend=1)
    listed.write_text(keys[4])
    with pytest.raises(IntegrityError, match=r"list\.txt \(data\.exclude\) has changed since"):
        resume_pretraining(tmp_path / "run", extend=1)


def test_a_run_is_continued_where_its_data_has_moved(
    librispeech_data: Path, voxceleb1_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    old, new = Path(shutil.copytree(librispeech_data, tmp_path / "old")), tmp_path / "new"
    config = replace(pretrain_config, steps=2, validate_every_steps=2)
    start_pretraining(config, [old], tmp_path / "run")
    old.rename(new)
    with pytest.raises(InputError, match="old"):
        resume_pretraining(tmp_path / "run", extend=1)
    with pytest.raises(IntegrityError, match="has fingerprint .* the run was trained on"):
        resume_pretraining(tmp_path / "run", extend=1, data=[voxceleb1_data])
    with pytest.raises(ConfigError, match="2 datasets are given, the run was trained on 1: give"):
        resume_pretraining(tmp_path / "run", extend=1, data=[new, new])
    resume_pretraining(tmp_path / "run", extend=1, data=[new])
    # From now on it is known to be there.
    resume_pretraining(tmp_path / "run", extend=1)
    assert RunFolder(tmp_path / "run").read_record()["data"] == [str(new)]


def test_a_state_of_a_run_is_a_model(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    config = replace(pretrain_config, steps=4, validate_every_steps=2)
    start_pretraining(config, [librispeech_data], run)
    finished = PretrainedModel.from_pretrained(run)
    shutil.rmtree(run / "export")
    last = PretrainedModel.from_pretrained(f"{run}@4")
    assert all(
        torch.equal(finished.state_dict()[name], tensor)
        for name, tensor in last.state_dict().items()
    )
    half = PretrainedModel.from_pretrained(run / "checkpoints" / "step-00000002.ckpt")
    assert any(
        not torch.equal(finished.state_dict()[name], tensor)
        for name, tensor in half.state_dict().items()
    )
    assert half.config.training["exported"] == "state"
    assert half.config.training["exported_step"] == 2 and half.config.training["steps"] == 4
    command = ["inspect", f"{run}@2"]
    assert main(command) == 0
    with pytest.raises(InputError, match=r"run has no state of step 3: it has 2, 4"):
        PretrainedModel.from_pretrained(f"{run}@3")
    with pytest.raises(InputError, match=r"continue it with --resume, or take one of its states"):
        PretrainedModel.from_pretrained(run)
    state = run / "checkpoints" / "step-00000002.ckpt"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"step-00000002\.ckpt is damaged \(checksum\): take"):
        PretrainedModel.from_pretrained(f"{run}@2")


FACTS = {
    **{"task": "pretrain", "data": [], "data_fingerprint": [], "files": {}, "seed": 0},
    "threads": 1,
}


def test_a_run_that_was_ended_before_its_record_is_started_anew(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    run, config = tmp_path / "run", replace(pretrain_config, steps=1)
    (run / "checkpoints").mkdir(parents=True)
    for name in ("checkpoints/lock", "config.yaml", "config.yaml.partial", "run.json.partial"):
        (run / name).write_text("cut o")
    (run / "other").touch()
    with pytest.raises(OutputInUseError, match="run is not empty"):
        start_pretraining(config, [librispeech_data], run)
    (run / "other").unlink()
    start_pretraining(config, [librispeech_data], run)
    assert RunFolder(run).read_metrics() and not list(run.rglob("*.partial"))


def test_settings_of_a_user_in_the_folder_of_a_run_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("# mine")
    with pytest.raises(OutputInUseError, match="is not empty"), RunFolder(tmp_path).begin("", {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_of_two_runs_that_begin_at_once_one_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, first, second = tmp_path / "run", PretrainConfig(steps=1), PretrainConfig(steps=2)
    with RunFolder(run).begin(first, FACTS):
        # The other one looked before the first one had begun.
        monkeypatch.setattr(RunFolder, "require_new", lambda self: None)
        refused = pytest.raises(OutputInUseError, match="is being written by")
        with refused, RunFolder(run).begin(second, FACTS):
            pass
    assert RunFolder(run).read_config(PretrainConfig) == first


def test_a_run_that_ended_between_a_look_and_the_lock_is_not_overwritten(tmp_path: Path) -> None:
    run, faster = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first, second = PretrainConfig(steps=1), PretrainConfig(steps=2)
    hold = run.hold

    def hold_late() -> AbstractContextManager[None]:
        with faster.begin(first, FACTS):
            pass
        return hold()

    run.hold = hold_late  # type: ignore[method-assign, assignment]
    with pytest.raises(OutputInUseError, match="holds a run"), run.begin(second, FACTS):
        pass
    assert run.read_config(PretrainConfig) == first


def test_a_measurement_that_is_owed_is_written_once_however_often_it_is_made(
    tmp_path: Path,
) -> None:
    path, columns = tmp_path / "metrics.jsonl", ("train_loss", "validation_loss")
    MetricsWriter(path, columns).write(step=4, train_loss=2.0)
    for _ in range(3):
        writer = MetricsWriter(path, columns, first_step=4)
        writer.write(step=4, validation_loss=1.0)
    writer.write(step=5, train_loss=1.5)
    assert [(row["step"], len(row)) for row in RunFolder(tmp_path).read_metrics()] == [
        (4, 2),
        (4, 2),
        (5, 2),
    ]
    assert path.with_suffix(".csv").read_text().splitlines()[1:] == ["4,2.0,", "4,,1.0", "5,1.5,"]


def test_a_folder_that_holds_a_run_is_not_overwritten(
    pretrained: Path, librispeech_data: Path, pretrain_config: PretrainConfig
) -> None:
    with pytest.raises(OutputInUseError, match="holds a run: continue .* with --resume, or"):
        start_pretraining(replace(pretrain_config, seed=1), [librispeech_data], pretrained)


def test_a_finished_run_is_not_made_again_unless_it_continues_another_model(
    pretrained: Path,
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.stat().st_mtime_ns for path in pretrained.rglob("*") if path.is_file()}
    start_pretraining(pretrain_config, [librispeech_data], pretrained)
    assert f"{pretrained} has this run, finished: nothing is left to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    start = open_start(str(pretrained))
    with pytest.raises(OutputInUseError, match="holds a run: continue .* with --resume, or"):
        start_pretraining(pretrain_config, [librispeech_data], pretrained, start=start)
    # And the other way around: a run that continued a model is not one from the beginning.
    facts = {"task": "pretrain", CONTINUED_FROM: None}
    assert RunFolder(pretrained).has_finished(pretrain_config, facts)
    RunFolder(Path(shutil.copytree(pretrained, tmp_path / "copy"))).add_to_record(
        {CONTINUED_FROM: asdict(start.origin), START_WEIGHTS: start.origin.weights_xxh3}
    )
    assert not RunFolder(tmp_path / "copy").has_finished(pretrain_config, facts)


def test_resuming_a_finished_run_changes_nothing(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(pretrained, out)
    resume_pretraining(out)
    assert rows_of(out) == rows_of(pretrained)
    name = "export/model.safetensors"
    assert (out / name).read_bytes() == (pretrained / name).read_bytes()


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_foreign_objects_is_refused_and_nothing_runs(
    pretrained: Path, tmp_path: Path
) -> None:
    out, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(pretrained, out)
    state = out / "checkpoints" / "step-00000012.ckpt"
    torch.save({"state_dict": Malicious(proof)}, state)
    state.with_name(state.name + ".xxh3").write_text(file_digest(state))
    with pytest.raises(IntegrityError, match="holds more than tensors and plain values"):
        resume_pretraining(out)
    assert not proof.exists()


def test_a_cut_off_last_measurement_does_not_stop_a_resume(
    pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(pretrained, out)
    with (out / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5')
    resume_pretraining(out)
    assert rows_of(out) == rows_of(pretrained)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(pretrained, out)
    shutil.rmtree(out / "checkpoints")
    shutil.rmtree(out / "export")
    resume_pretraining(out)
    assert rows_of(out) == rows_of(pretrained)


def test_resuming_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the folder of a run: it has no run.json"):
        resume_pretraining(tmp_path)


def test_settings_that_do_not_fit_the_data_are_refused_before_the_first_step(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    front_end = replace(pretrain_config.front_end, feature_dims=80)
    with pytest.raises(ConfigError, match=r"has 20 dims: use --set front_end\.feature_dims=20"):
        start_pretraining(
            replace(pretrain_config, front_end=front_end), [librispeech_data], tmp_path / "a"
        )
    data = replace(pretrain_config.data, feature="fbank")
    with pytest.raises(ConfigError, match="has no feature 'fbank': it has logmel"):
        start_pretraining(replace(pretrain_config, data=data), [librispeech_data], tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_no_held_out_utterance_is_trained_on(
    librispeech_data: Path, pretrain_config: PretrainConfig
) -> None:
    dataset = Dataset(librispeech_data)
    training, validation = (
        {int(row) for batch in loader for row in batch.rows}
        for loader in make_loaders(pretrain_config, select_utterances(pretrain_config, [dataset]))
    )
    assert not training & validation
    assert training | validation == set(range(len(dataset)))
    assert validation


def test_a_run_folder_has_its_paths_and_no_measurements_at_first(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_metrics() == []
    assert run.export == tmp_path / "export"


def test_several_datasets_are_trained_on_by_their_weights_and_resume(
    librispeech_data: Path, voxceleb1_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    """The held-out losses of a stopped and resumed run are those of one that was not."""
    data = replace(
        pretrain_config.data, splits=("*",), weights=(1.0, 0.5), validation_proportion=0.1
    )
    config = replace(pretrain_config, data=data)
    start_pretraining(config, [librispeech_data, voxceleb1_data], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"] == [str(librispeech_data), str(voxceleb1_data)]
    datasets = [Dataset(librispeech_data), Dataset(voxceleb1_data)]
    selections = select_utterances(config, datasets)
    training, _ = make_loaders(config, selections)
    rows = [int(row) for batch in training for row in batch.rows]
    other = [row for row in rows if row >= len(datasets[0])]
    assert len(rows) - len(other) == len(selections.training[0].rows)
    assert len(other) == round(len(selections.training[1].rows) / 2)
    whole = rows_of(tmp_path / "run")
    latest = max((tmp_path / "run" / "checkpoints").glob("*.ckpt"), key=lambda path: path.name)
    latest.unlink()
    resume_pretraining(tmp_path / "run")
    assert rows_of(tmp_path / "run") == whole


def test_weights_that_are_not_one_for_each_dataset_are_refused(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(pretrain_config, data=replace(pretrain_config.data, weights=(1.0, 2.0)))
    with pytest.raises(ConfigError, match="weights has 2 numbers for 1 datasets: give one each"):
        start_pretraining(config, [librispeech_data], tmp_path / "run")


def test_a_run_reads_its_data_from_a_store_as_from_a_folder(
    s3: str,
    s3_client: Any,
    librispeech_data: Path,
    pretrained: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
) -> None:
    for path in librispeech_data.rglob("*"):
        if path.is_file():
            key = f"data/{path.relative_to(librispeech_data)}"
            s3_client.upload_file(str(path), "bucket", key)
    start_pretraining(pretrain_config, [f"{s3}/data"], tmp_path / "run")
    assert rows_of(tmp_path / "run") == rows_of(pretrained)
    assert RunFolder(tmp_path / "run").read_record()["data"] == [f"{s3}/data"]
