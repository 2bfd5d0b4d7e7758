"""A rehearsal of `python -m benchmarks.gpu` on the CPU, and the tables of its results."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aalbert.train.preset import preset_names
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.recipes import read_recipe
from benchmarks.gpu.__main__ import ROOT, STAGES
from benchmarks.gpu.context import read_lines
from benchmarks.gpu.steps import FIRST, WAYS, measure_reference, order
from benchmarks.gpu.tables import tables
from tests.benchmarks.contexts import rehearsal_context


@pytest.mark.slow
def test_a_rehearsal_runs_every_stage_and_its_results_become_tables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # It ends when it is done: within three minutes, unless others use the cores too.
    command = ["-m", "benchmarks.gpu", "--device", "cpu", "--minutes", "40", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
    lines = read_lines(out / "results.jsonl")
    ended = [line["stage"] for line in lines if line["kind"] == "stage" and line["done"]]
    assert ended == [stage.name for stage in STAGES]
    assert sorted(path.name for path in out.iterdir()) == [
        "log.txt",
        "results.jsonl",
        "trace.json.gz",
    ]
    presets = preset_names()
    compared = [line for line in lines if line["kind"] == "agreement"]
    assert [line["preset"] for line in compared] == [name for name in presets for _ in range(3)]
    assert all(line["agrees"] for line in compared)
    steps = [line for line in lines if line["kind"] == "step"]
    assert {line["preset"] for line in steps} == set(presets)
    assert all(line["step_s"] > 0 and line["x_real_time"] > 0 for line in steps)
    assert [line["upstream"] for line in lines if line["kind"] == "probe"] == [
        "pretrained",
        "untrained",
        "log-mel",
    ]
    with gzip.open(out / "trace.json.gz") as stream:
        assert json.load(stream)["traceEvents"]
    text = tables(lines)
    assert "### A step of every preset" in text
    assert "### Stages" in text


def test_every_preset_is_measured_in_every_way_and_packed_ones_before_others() -> None:
    found = [(preset, way.name if way else "reference") for preset, way in order(["x", FIRST])]
    ways = [way.name for way in WAYS]
    assert found[:6] == [
        (FIRST, "packed"),
        (FIRST, "padded"),
        (FIRST, "reference"),
        ("x", "packed"),
        (FIRST, "static, compiled"),
        (FIRST, "packed, compiled"),
    ]
    assert sorted(found) == sorted(
        (preset, name) for preset in ("x", FIRST) for name in (*ways, "reference")
    )


def test_the_reference_takes_a_part_of_its_batch_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def time_reference(config: PretrainConfig, *_: object, **__: object) -> float:
        tried.append(config.data.batch_seconds)
        if config.data.batch_seconds > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.01

    monkeypatch.setattr("benchmarks.pretrain_reference.time_reference", time_reference)
    monkeypatch.setattr("benchmarks.gpu.steps.speech", lambda context: tmp_path)
    config, context = read_recipe(FIRST), rehearsal_context(tmp_path, tmp_path)
    fits = 130.0
    line = measure_reference(config, context)
    assert tried == [480.0, 240.0, 120.0]
    assert line["batch_share"] == 0.25
    # Its speed is that of a second of audio, its step that of the whole batch.
    assert line["x_real_time"] == 100.0 and line["step_s"] == 4.8
    fits = 0.0
    with pytest.raises(MemoryError, match=r"no 0\.125 of the reference's batch fits into memory"):
        measure_reference(config, context)


def test_a_step_stands_beside_the_reference_of_its_preset() -> None:
    line: dict[str, Any] = {
        "stage": "steps",
        "kind": "step",
        "preset": "tiny",
        "precision": "bf16-mixed",
    }
    lines: list[dict[str, Any]] = [
        line | {"way": "packed", "step_s": 0.0625, "x_real_time": 512.0, "mfu": 0.4},
        line | {"way": "reference", "step_s": 0.25, "x_real_time": 128.0, "batch_share": 0.5},
        {"stage": "steps", "kind": "stage", "done": True, "seconds": 3.0, "budget_s": 5.0},
        {"stage": "steps", "kind": "failure", "preset": "big", "error": "OutOfMemoryError: x"},
    ]
    text = tables(lines)
    assert "| tiny | packed | 0.0625 | – | – | 512 | 0.4 | – | – | – | – | – | 4 |" in text
    assert "| tiny | reference | 0.25 | – | – | 128 | – | – | – | – | – | 0.5 | 1 |" in text
    assert "| steps | 3 | 5 | yes |" in text
    assert "- steps failure big OutOfMemoryError: x" in text
