"""Runs with one step whose gradient is not finite."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aalbert.errors import DivergedError
from aalbert.models import PretrainedModel
from aalbert.shards import Batch, Dataset
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.run_folder import RunFolder

BAD_STEP = 6


@pytest.fixture
def bad_step(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the loss of one step NaN, and return the rows of its utterances."""
    original = Pretraining.training_step
    rows: list[int] = []

    def training_step(self: Pretraining, batch: Batch, batch_idx: int) -> Tensor:
        loss = original(self, batch, batch_idx)
        if self.global_step + 1 != BAD_STEP:
            return loss
        rows.extend(batch.rows.tolist())
        return loss * math.nan

    monkeypatch.setattr(Pretraining, "training_step", training_step)
    return rows


def test_a_step_that_is_not_finite_is_skipped_and_its_utterances_are_written(
    bad_step: list[int],
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    start_pretraining(replace(pretrain_config, on_nan="skip"), [librispeech_data], run)
    written = json.loads((run / "nan-00000006.json").read_text())
    dataset = Dataset(librispeech_data)
    assert written["keys"] == [dataset.key(row) for row in bad_step]
    assert written["step"] == BAD_STEP and written["losses"] == ["nan"]
    assert "the gradient of step 6 is not finite (loss [nan]): skipped" in capsys.readouterr().err
    rows = RunFolder(run).read_metrics()
    assert [row["step"] for row in rows if "train_loss" in row] == [1, 2, 3, 4, 5, *range(7, 13)]
    assert all(
        tensor.isfinite().all() for tensor in PretrainedModel.from_pretrained(run).parameters()
    )


def test_a_step_that_is_not_finite_ends_the_run_and_the_weights_are_as_before(
    bad_step: list[int],
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    message = r"the gradient of step 6 is not finite \(loss \[nan\]\); its utterances are in .*json"
    with pytest.raises(DivergedError, match=message):
        start_pretraining(pretrain_config, [librispeech_data], run)
    assert not (run / "export").exists()
    assert [path.name for path in run.glob("checkpoints/*.ckpt")] == ["step-00000004.ckpt"]
    monkeypatch.undo()
    resume_pretraining(run)
    weights = PretrainedModel.from_pretrained(run).state_dict()
    undisturbed = PretrainedModel.from_pretrained(pretrained).state_dict()
    assert all(torch.equal(weights[name], undisturbed[name]) for name in weights)


def test_a_run_that_diverges_ends(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    optimiser = replace(pretrain_config.optimiser, learning_rate=1e30, warmup_proportion=0.9)
    with pytest.raises(DivergedError, match=r"not finite|the validation_loss is"):
        start_pretraining(
            replace(pretrain_config, optimiser=optimiser, log_every_steps=100),
            [librispeech_data],
            tmp_path / "run",
        )
    assert not (tmp_path / "run" / "export").exists()
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
