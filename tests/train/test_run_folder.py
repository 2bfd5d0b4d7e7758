"""The files of a run: whatever is damaged in them is named, and settings stay those of the run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aalbert.common.configuration import to_yaml
from aalbert.errors import IntegrityError
from aalbert.train.loop.config import OptimiserConfig
from aalbert.train.measurements import MetricsWriter, read_measurements
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.run_folder import RunFolder

CONFIG = PretrainConfig(steps=7, optimiser=OptimiserConfig(learning_rate=2e-3))
RECORD = {"task": "pretrain", "data": ["data"], "data_fingerprint": ["1"], "files": {}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """The folder of a run that has just begun."""
    folder = RunFolder(tmp_path / "run")
    with folder.begin(CONFIG, {**RECORD, "seed": 0, "threads": 1}):
        pass
    return folder


def test_the_settings_of_a_run_are_read_back(run: RunFolder) -> None:
    assert run.read_config(PretrainConfig) == CONFIG
    longer = replace(CONFIG, steps=9)
    run.change_config(longer, {"step": 7})
    assert run.read_config(PretrainConfig) == longer


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: "", "optimiser.learning_rate is 0.0002, the run was made with 0.002"),
        (lambda text: text[: text.index("\nsteps:")], "steps is 1000000, the run was made with 7"),
        (lambda text: text.replace("steps: 7", "steps: 8"), "steps is 8, the run was made with 7"),
        (lambda text: text + "x: 1\n", "there is no setting 'x'"),
        (lambda text: "[]", "expected 'name: value' lines"),
        (lambda text: text[:-4], "config.yaml"),
        (lambda text: "a: " + "[" * 3000, "nested more than 50 deep"),
        (lambda text: text + "\0", "holds a NUL"),
    ],
)
def test_other_settings_than_those_of_the_run_are_refused(
    run: RunFolder, edit: Callable[[str], str], reason: str
) -> None:
    run.config.write_text(edit(run.config.read_text()))
    with pytest.raises(IntegrityError) as caught:
        run.read_config(PretrainConfig)
    assert str(run.config) in str(caught.value) and reason in str(caught.value)
    assert str(caught.value).endswith(
        "; put back the settings, which run.json has, or train again into another --out"
    )


def test_settings_that_do_not_change_the_training_may_be_changed(run: RunFolder) -> None:
    changed = replace(CONFIG, export="best", keep_checkpoints=9, timeout_s=600.0)
    run.config.write_text(to_yaml(changed))
    assert run.read_config(PretrainConfig) == changed


@pytest.mark.parametrize("text", ["", "[]", "null", "5", "{", "[" * 5000, "\0", '{"task": NaN}'])
def test_a_damaged_record_is_named(run: RunFolder, text: str) -> None:
    run.record.write_text(text)
    with pytest.raises(IntegrityError, match=r"run\.json is damaged \(.*; restore it, or train"):
        run.read_record()


@pytest.mark.parametrize(
    "change",
    [
        {"task": []},
        {"task": "voxceleb1"},
        {"data": 5},
        {"data": "data"},
        {"data_fingerprint": None},
        {"data_fingerprint": []},
        {"data": []},
        {"files": []},
        {"threads": "1"},
        {"threads": 0},
        {"threads": 2**40},
        {"settings": 5},
        {"changes": 5},
        {"trivial_predictors": {"linear": "low"}},
        {"more": 1},
    ],
)
def test_a_record_of_other_types_is_damaged(run: RunFolder, change: dict[str, Any]) -> None:
    run.record.write_text(json.dumps({**run.read_record(), **change}))
    with pytest.raises(IntegrityError, match=r"run\.json is damaged"):
        run.read_record()


LINES = ['{"step": 1, "loss": 0.5}\n', '{"step": 2, "loss": 0.25}\n']


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(LINES)[:-3])
    assert read_measurements(path) == [{"step": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "line",
    ["{x", "", "[]", "{}", '{"step": "2"}', '{"step": 1.5}', '{"step": 1, "loss": "low"}', "\0"]
    + ['{"step": 1, "loss": NaN}', "[" * 5000, '{"step": true}'],
)
def test_a_damaged_line_of_measurements_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{LINES[0]}{line}\n{LINES[1]}")
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl:2 .*; restore it, or take the line"):
        read_measurements(path)


def test_a_measurement_that_runs_do_not_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(LINES))
    with pytest.raises(IntegrityError, match="has 'loss'"):
        MetricsWriter(path, ("train_loss",), first_step=2)


def test_a_held_out_loss_that_is_gone_is_named_with_the_way_out(run: RunFolder) -> None:
    run.metrics.write_text('{"step": 4, "validation_loss": 0.5}\n')
    assert run.held_out_loss(4) == 0.5
    with pytest.raises(IntegrityError, match="no held-out loss of step 7: .*step-00000007.ckpt"):
        run.held_out_loss(7)


def test_a_run_says_what_is_there_and_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"damaged")
    assert repr(RunFolder(tmp_path)) == f"RunFolder({str(tmp_path)!r}: run.json)"
    assert repr(RunFolder(Path("x"))) == "RunFolder('x': nothing yet)"
