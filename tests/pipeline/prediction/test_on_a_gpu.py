"""Finished runs do on a GPU what they do on a CPU, on a GPU that is only imagined.

Every model and every number is where it is needed, and what is found is the same.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aalbert
from aalbert.cli import main
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import measure_scores, start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.run_folder import RunFolder
from tests.computing_gpu import GPU, computing_gpu

RUNS = [
    *("speaker_run", "phone_run", "verification_run", "normalised_run"),
    *("recognition_run", "regression_run"),
]


@pytest.mark.parametrize("name", RUNS)
def test_an_evaluation_is_the_same(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests read what is written into the run.
    run = shutil.copytree(request.getfixturevalue(name), tmp_path / "run")
    # Every operation on the imagined GPU takes long.
    monkeypatch.setattr("aalbert.train.evaluation.frame_classifiers.ITERATIONS", 4)
    [expected] = evaluate_runs([run])
    with computing_gpu(monkeypatch):
        [found] = evaluate_runs([run])
        assert {each.device for each in found.measured.model.buffers()} == {GPU}
    assert found.result.metric.value == pytest.approx(expected.result.metric.value, abs=1e-5)
    assert [probe.value for probe in found.result.layer_probes] == pytest.approx(
        [probe.value for probe in expected.result.layer_probes], abs=1e-5
    )


def test_verification_is_fitted_the_same(
    normalised: DownstreamConfig,
    normalised_run: Path,
    cohort_data: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its cohort, its calibration and its threshold, which are found without training."""
    with computing_gpu(monkeypatch):
        start_downstream(normalised, cohort_data, str(pretrained), tmp_path / "run")
    found, expected = (
        RunFolder(run).read_metrics()[-1] for run in (tmp_path / "run", normalised_run)
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_thresholds_are_chosen_on_the_gpu_after_training(
    verification_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning leaves a trained model on the CPU."""
    opened = open_run(RunFolder(verification_run))
    expected, opened.setup.model.threshold = opened.setup.model.threshold, None
    with computing_gpu(monkeypatch):
        measure_scores(opened.config, opened.setup, None)
        assert {each.device for each in opened.setup.model.buffers()} == {GPU}
    found = opened.setup.model.threshold
    assert found is not None and expected is not None
    assert found.score == pytest.approx(expected.score, abs=1e-5)


@pytest.mark.parametrize("name", ["speaker_run", "phone_run", "recognition_run", "regression_run"])
def test_a_prediction_is_the_same(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = request.getfixturevalue(name)
    data = RunFolder(run).read_record()["data"]
    command = ["predict", str(run), data, "--format", "jsonl"]
    expected = printed_by(command, capsys)
    with computing_gpu(monkeypatch):
        found = printed_by([*command, "--device", "cuda:0"], capsys)
    assert len(found) > 1 and same_numbers(found, expected)


def test_a_comparison_is_the_same(
    normalised_run: Path,
    cohort_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = sorted((cohort_data.parent / "corpus").rglob("*.wav"))
    command = ["compare", str(normalised_run), *map(str, audio[:2]), "--format", "jsonl"]
    expected = printed_by(command, capsys)
    with computing_gpu(monkeypatch):
        found = printed_by([*command, "--device", "cuda:0"], capsys)
    assert found and same_numbers(found, expected)


def test_extracted_states_are_the_same(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = [np.sin(np.arange(size) / (3 + size % 7)).astype(np.float32) for size in (9_000, 4_321)]
    expected = aalbert.from_pretrained(pretrained).extract(waves)
    with computing_gpu(monkeypatch):
        model = aalbert.from_pretrained(pretrained, "cuda:0")
        assert model.device == GPU
        found = model.extract(waves)
        assert {states.device for states in found} == {GPU}
        numbers = [states.cpu().numpy() for states in found]
    for ours, states in zip(numbers, expected, strict=True):
        np.testing.assert_allclose(ours, states.numpy(), atol=1e-5)


def printed_by(command: list[str], capsys: pytest.CaptureFixture[str]) -> list[Any]:
    assert main(command) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def same_numbers(found: Any, expected: Any) -> bool:
    """Return whether both have the same entries, and numbers that differ by rounding alone."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            same_numbers(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same_numbers, found, expected))
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-5)
    return bool(found == expected)
