"""Runs that are stopped by signals or full disks, extended, logged and estimated."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer

from aalbert.cli import main
from aalbert.common.configuration import load_config, to_yaml
from aalbert.common.signals import SAVE_SIGNALS, handle_stop_signals
from aalbert.errors import ConfigError, InterruptedRunError, OutputInUseError
from aalbert.models import PretrainedModel
from aalbert.models.training_states import is_intact
from aalbert.shards import Batch
from aalbert.train.loop.checkpoints import remove_old_states
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.stop_signals import SignalListener, raise_if_stopped
from aalbert.train.loop.validation import Measurement
from aalbert.train.pretraining import module as pretraining_module
from aalbert.train.pretraining import reconstruction
from aalbert.train.pretraining import run as pretrain_module
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.run_folder import RunFolder

MEASURED_ANEW = {"x_real_time", "frames_per_second", "padding_efficiency", "data_wait"}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the measurements of a run, without the speed."""
    return [
        {name: row[name] for name in row.keys() - MEASURED_ANEW}
        for row in RunFolder(run).read_metrics()
    ]


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (PretrainedModel.from_pretrained(run).state_dict() for run in (one, other))
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("step", "measured"), [(8, [4]), (12, [4, 8])])
def test_a_validation_that_a_signal_interrupts_is_made_when_the_run_is_resumed(
    step: int,
    measured: list[int],
    pretrained: Path,
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, original, calls = tmp_path / "run", reconstruction.reconstruct, [0]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        validating = not torch.is_grad_enabled()
        if validating and (run / "checkpoints" / f"step-{step - 4:08d}.ckpt").exists():
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments, **options)

    monkeypatch.setattr(pretraining_module, "reconstruct", interrupted)
    started = time.monotonic()
    with pytest.raises(InterruptedRunError, match=f"by SIGUSR1, saved at step {step}") as caught:
        start_pretraining(pretrain_config, [librispeech_data], run)
    assert caught.value.signal_number == signal.SIGUSR1
    assert time.monotonic() - started < 60
    assert [row["step"] for row in rows_of(run) if "validation_loss" in row] == measured
    monkeypatch.undo()
    resume_pretraining(run)
    assert rows_of(run) == rows_of(pretrained)
    assert same_weights(run, pretrained)


def test_signals_are_handled_as_before_when_a_run_has_ended(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    start_pretraining(replace(pretrain_config, steps=4), [librispeech_data], tmp_path / "run")
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_a_signal_that_is_ignored_stays_so_during_training() -> None:
    before = {number: signal.getsignal(number) for number in SAVE_SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        listener = SignalListener()
        listener.listen()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert listener.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_after_the_last_step_is_not_lost() -> None:
    ended: list[int] = []
    listener = SignalListener()
    listener.received = signal.SIGTERM
    with handle_stop_signals(ended.append):
        trainer: Any = SimpleNamespace(should_stop=False, global_step=12)
        raise_if_stopped(trainer, listener, "aalbert pretrain --resume")
    assert ended == [signal.SIGTERM]


@pytest.mark.slow
def test_utterances_come_in_the_same_order_after_two_stops_and_in_another_in_the_next_epoch(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, rows, stops = Pretraining.training_step, [[]], []  # type: ignore[var-annotated]

    def note(self: Pretraining, batch: Batch, batch_idx: int) -> torch.Tensor:
        rows[-1].append(batch.rows.tolist())
        if stops and self.global_step + 1 == stops[0]:
            stops.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Pretraining, "training_step", note)
    start_pretraining(pretrain_config, [librispeech_data], tmp_path / "undisturbed")
    rows.append([])
    stops += [2, 4]
    with pytest.raises(InterruptedRunError, match="saved at step 2"):
        start_pretraining(pretrain_config, [librispeech_data], tmp_path / "run")
    with pytest.raises(InterruptedRunError, match="saved at step 4"):
        resume_pretraining(tmp_path / "run")
    resume_pretraining(tmp_path / "run")
    assert rows[1] == rows[0]
    utterances = [row for batch in rows[0] for row in batch]
    size = len(set(utterances))
    first, second = utterances[:size], utterances[size : 2 * size]
    assert sorted(first) == sorted(set(utterances)) and set(second) <= set(first)
    assert len(second) > 4 and first[: len(second)] != second


@pytest.mark.slow
def test_losses_are_bit_equal_after_signals_at_ten_random_steps_of_one_run(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(pretrain_config, steps=60)
    start_pretraining(config, [librispeech_data], tmp_path / "undisturbed")
    points = sorted(random.Random(19).sample(range(1, 60), 10))
    sent = [0.0]
    original = SaveStates.on_train_batch_end

    def signal_at_points(self: SaveStates, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if points and trainer.global_step == points[0]:
            points.pop(0)
            sent[0] = time.monotonic()
            os.kill(os.getpid(), random.choice([signal.SIGTERM, signal.SIGINT]))

    monkeypatch.setattr(SaveStates, "on_train_batch_end", signal_at_points)
    run = tmp_path / "run"
    with pytest.raises(InterruptedRunError):
        start_pretraining(config, [librispeech_data], run)
    while points:
        with pytest.raises(InterruptedRunError):
            resume_pretraining(run)
        assert time.monotonic() - sent[0] < 10
    resume_pretraining(run)
    assert rows_of(run) == rows_of(tmp_path / "undisturbed")
    assert same_weights(run, tmp_path / "undisturbed")


def test_a_full_disk_keeps_the_earlier_states_and_the_run_resumes_once_there_is_space(
    pretrained: Path,
    librispeech_data: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    original = SaveStates.on_train_batch_end

    def fill_up(self: SaveStates, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 6:
            filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 60_000))
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SaveStates, "on_train_batch_end", fill_up)
        config = ["--config", str(pretrained / "config.yaml"), "--data", str(librispeech_data)]
        assert main(["pretrain", *config, "--out", str(run)]) == 7
    assert f"aalbert: {os.strerror(28)}: {run}" in capsys.readouterr().err
    states = list(run.glob("checkpoints/*.ckpt"))
    assert [path.name for path in states] == ["step-00000004.ckpt"] and is_intact(states[0])
    assert not list(run.rglob("*.partial"))
    filler.unlink()
    resume_pretraining(run)
    assert rows_of(run) == rows_of(pretrained)


def test_a_folder_without_write_permission_is_refused_before_the_first_step(
    pretrained: Path,
    librispeech_data: Path,
    small_disk: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(pretrained, small_disk / "run", ignore=shutil.ignore_patterns("pictures"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    config = ["--config", str(pretrained / "config.yaml"), "--data", str(librispeech_data)]
    assert main(["pretrain", *config, "--out", str(small_disk / "new")]) == 7
    assert main(["pretrain", "--resume", "--out", str(small_disk / "run")]) == 7
    assert capsys.readouterr().err.count(f"aalbert: {os.strerror(30)}: {small_disk}") == 2


def test_a_second_process_in_the_same_run_is_refused(pretrained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(pretrained, tmp_path / "run"))
    message = f"{run} is being written by process {os.getpid()} on .*: wait for it, or choose"
    with RunFolder(run).hold(), pytest.raises(OutputInUseError, match=message):
        resume_pretraining(run)
    resume_pretraining(run)
    assert not (run / "checkpoints" / "lock").exists()


def test_a_finished_run_is_extended_with_the_rates_of_a_longer_one(
    pretrained: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    assert main(["pretrain", "--extend", "6", "--out", str(run)]) == 0
    assert rows_of(run)[: len(rows_of(pretrained))] == rows_of(pretrained)
    rates = {row["step"]: row["learning_rate"] for row in rows_of(run) if "learning_rate" in row}
    # A warm-up of 7 % of 18 steps is one step; the rate of step s, counted from 1, is then
    # (18 - (s - 1)) / 17 of the peak.
    expected = [1e-3 * (19 - step) / 17 for step in range(13, 19)]
    assert [rates[step] for step in range(13, 19)] == pytest.approx(expected)
    assert load_config(PretrainConfig, file=run / "config.yaml", environment={}).steps == 18
    record = RunFolder(run).read_record()
    assert record["exported_step"] == 18 and record["changes"][0]["step"] == 12


def test_an_extension_is_recorded_after_all_ranks_have_read_the_settings(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = tmp_path / "run", []
    shutil.copytree(pretrained, run)

    def refuse(ranks: Ranks, facts: dict[str, Any]) -> None:
        read.append(load_config(PretrainConfig, file=run / "config.yaml", environment={}).steps)
        raise ConfigError("they differ")

    monkeypatch.setattr(Ranks, "require_same", refuse)
    for _ in range(2):
        with pytest.raises(ConfigError, match="they differ"):
            resume_pretraining(run, extend=6)
    assert read == [12, 12]


def test_later_states_do_not_replace_the_one_that_was_just_saved(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        (tmp_path / f"step-{step:08d}.ckpt").touch()
    remove_old_states(tmp_path, 8, keep=1, best_step=None)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-00000008.ckpt",
        "step-00000012.ckpt",
    ]


def test_checksums_that_a_killed_process_left_without_states_are_removed(tmp_path: Path) -> None:
    kept = ("best.ckpt.xxh3", "step-00000008.ckpt", "step-00000008.ckpt.xxh3")
    for name in ("step-00000004.ckpt.xxh3", *kept):
        (tmp_path / name).touch()
    remove_old_states(tmp_path, 8, keep=1, best_step=None)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "best.ckpt.xxh3",
        "step-00000008.ckpt",
        "step-00000008.ckpt.xxh3",
    ]


def test_a_state_that_an_owed_validation_shows_not_to_be_the_best_is_removed(
    tmp_path: Path,
) -> None:
    for step in (4, 8):
        (tmp_path / f"step-{step:08d}.ckpt").touch()
    validation: Any = SimpleNamespace(best_step=8)
    unused: Any = None
    saver = SaveStates(tmp_path, unused, 1, unused, validation, Ranks(), unused)
    trainer: Any = SimpleNamespace(global_step=8)
    saver.on_fit_end(trainer, unused)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000008.ckpt"]


def test_the_best_state_is_kept_and_exported_when_asked_for(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([0.2, 0.1, 0.3])

    def measured(*_: Any) -> Measurement:
        return {"validation_loss": next(losses)}

    monkeypatch.setattr(pretrain_module, "held_out_loss", measured)
    run = tmp_path / "run"
    config = replace(pretrain_config, export="best", keep_checkpoints=1)
    start_pretraining(config, [librispeech_data], run)
    states = sorted(path.name for path in run.glob("checkpoints/*.ckpt"))
    assert states == ["step-00000008.ckpt", "step-00000012.ckpt"]
    saved = torch.load(run / "checkpoints" / states[0], weights_only=True)["state_dict"]
    exported = PretrainedModel.from_pretrained(run)
    assert all(torch.equal(saved[f"model.{n}"], t) for n, t in exported.state_dict().items())
    record = RunFolder(run).read_record()
    assert (record["exported"], record["exported_step"]) == ("best", 8)
    assert exported.config.training["exported_step"] == 8
    card = (run / "export" / "README.md").read_text()
    assert "- exported: best" in card and "- exported_step: 8" in card


def test_a_dry_run_estimates_a_run_and_writes_nothing(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(pretrain_config))
    before = set(tmp_path.rglob("*"))
    arguments = ["--config", str(tmp_path / "config.yaml"), "--data", str(librispeech_data)]
    command = ["pretrain", *arguments, "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    assert main(command) == 0
    expected = json.loads(capsys.readouterr().out)
    assert set(tmp_path.rglob("*")) == before
    assert expected["steps"] == 12 and expected["parameters"] > expected["encoder_parameters"] > 0
    assert 0 < expected["seconds_per_step"] < 60 and expected["peak_bytes"] > 0
    assert expected["hours_seen"] == pytest.approx(
        expected["hours_in_an_epoch"] * expected["epochs"], rel=0.01
    )


def test_the_report_shows_curves_pictures_settings_and_data(pretrained: Path) -> None:
    page = (pretrained / "report.html").read_text()
    for title in ("Loss", "Learning rate", "Speed", "Reconstructions", "Settings", "Data", "Run"):
        assert re.search(f"<h2[^>]*>{title}", page)
    # The reconstruction; the curves are drawn in the page.
    assert page.count("data:image/png;base64,") == 1 and page.count("<svg width") >= 3
    losses = [row for row in rows_of(pretrained) if "validation_loss" in row]
    assert f"{losses[-1]['validation_loss']:.4f}" in page
    assert "validate_every_steps: 4" in page and "http" not in page.split("<body>")[1]
