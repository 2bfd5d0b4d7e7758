"""Heads and encoders that two processes train together, beside one that trains them alone."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aalbert.common.configuration import to_yaml
from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel, HeadConfig, PretrainedModel
from aalbert.train.downstream.config import DownstreamConfig, FineTuningConfig
from aalbert.train.downstream.grid import make_grid
from aalbert.train.downstream.run import share_steps, start_downstream
from aalbert.train.downstream.sweep import run_sweep
from aalbert.train.loop.checkpoints import latest_state
from aalbert.train.run_folder import RunFolder
from tests.two_ranks import Started, wait_for_metrics

# Batches are so small that an epoch has several steps, and its last one is divided.
QUICK = DownstreamConfig(
    epochs=2, learning_rate=1e-2, batch_seconds=2.0, batches_per_step=2, prefetch=0
)
WHOLE = replace(QUICK, crop_seconds=0)
CONFIGS = {
    "plain": QUICK,
    "standardised": replace(QUICK, head=HeadConfig(standardise=True)),
    "cached": replace(WHOLE, cache_embeddings=True),
    "every frame": replace(WHOLE, head=HeadConfig(pooling="none"), cache_embeddings=True),
    "some layers": replace(
        QUICK, epochs=3, mode="fine-tuned", fine_tuning=FineTuningConfig(epochs_per_layer=1)
    ),
    "no layer above": replace(QUICK, mode="from-scratch", layers=1),
}


def arguments(config: DownstreamConfig, data: Path, upstream: str, folder: Path) -> list[str]:
    """The command that trains in `run` of a folder."""
    (folder / "config.yaml").write_text(to_yaml(config))
    places = ["--data", str(data), "--upstream", upstream, "--out", str(folder / "run")]
    return ["downstream", "voxceleb1", "--config", str(folder / "config.yaml"), *places]


def require_equal_runs(run: Path, expected: Path, tolerance: float = 1e-3) -> None:
    """Raise `AssertionError` unless two runs measured, ended with and exported the same.

    Up to rounding.
    """
    rows, expected_rows = (RunFolder(each).read_metrics() for each in (run, expected))
    names = ("step", "train_loss", "learning_rate", "dev_loss", "dev_accuracy")
    for row, other in zip(rows, expected_rows, strict=True):
        assert {name: row[name] for name in names if name in row} == pytest.approx(
            {name: other[name] for name in names if name in other}, rel=tolerance
        )
    weights, expected_weights = (weights_of(each) for each in (run, expected))
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], rtol=1e-3, atol=tolerance)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights after the last step, and those of the best one, which are exported."""
    state = latest_state(RunFolder(run).checkpoints)
    assert state is not None
    last: dict[str, torch.Tensor] = torch.load(state, weights_only=True)["state_dict"]
    return last | DownstreamModel.from_pretrained(run).state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        *(pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name != "plain"),
    ],
)
def test_two_processes_train_as_one_does(
    name: str, voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    """With dropout too, which depends on the batch and not on the process."""
    config, upstream = CONFIGS[name], str(pretrained) if name != "plain" else "logmel"
    results = Started(tmp_path, arguments(config, voxceleb1_data, upstream, tmp_path)).finish()
    assert [code for code, _ in results] == [0, 0], results
    # PyTorch has warnings past Python, as of parameters that take no part.
    assert not any("warn" in error.lower() for _, error in results), results
    start_downstream(config, voxceleb1_data, upstream, tmp_path / "one")
    require_equal_runs(tmp_path / "run", tmp_path / "one")


@pytest.mark.slow
def test_a_stopped_run_of_two_processes_goes_on_to_the_end_of_one(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, epochs=40)
    started = Started(tmp_path, arguments(config, voxceleb1_data, "logmel", tmp_path))
    wait_for_metrics(tmp_path / "run")
    os.kill(started.pids[1], signal.SIGTERM)
    results = started.finish()
    assert [code for code, _ in results] == [143, 143], results
    assert all("stopped by SIGTERM, saved at step" in error for _, error in results)
    resume = ["downstream", "voxceleb1", "--resume", "--out", str(tmp_path / "run")]
    assert [code for code, _ in Started(tmp_path, resume).finish()] == [0, 0]
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "one")
    require_equal_runs(tmp_path / "run", tmp_path / "one")


@pytest.mark.slow
def test_a_killed_rank_ends_the_other_which_reports_it(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, epochs=10_000)
    started = Started(tmp_path, arguments(config, voxceleb1_data, "logmel", tmp_path))
    wait_for_metrics(tmp_path / "run")
    os.kill(started.pids[1], signal.SIGKILL)
    code, error = started.finish()[0]
    assert code == 1
    assert f"process {started.pids[1]}) ended without a message" in error


@pytest.mark.slow
def test_a_first_rank_that_fails_before_training_is_reported_by_the_other(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    """While it computes the states to cache, for which the other one waits."""
    broken = PretrainedModel.from_pretrained(pretrained)
    with torch.no_grad():
        for weight in broken.upstream.parameters():
            weight.fill_(1e38)
    broken.save_pretrained(tmp_path / "broken")
    command = arguments(CONFIGS["cached"], voxceleb1_data, str(tmp_path / "broken"), tmp_path)
    (code, error), (other_code, other_error) = Started(tmp_path, command).finish()
    assert (code, other_code) == (1, 1)
    reason = error.splitlines()[-1].removeprefix("aalbert: ")
    assert "not finite" in reason
    assert f"ended: {reason}; continue with --resume" in other_error


def test_what_has_nothing_to_share_is_refused(
    voxceleb1_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**ranks, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="batches_per_step 1 cannot be shared by 2 ranks: set it"):
        share_steps(DownstreamConfig())
    cosine = DownstreamConfig(
        task="voxceleb1-verification",
        layers="mean",
        head=HeadConfig(classifier="none"),
        batches_per_step=2,
    )
    with pytest.raises(ConfigError, match="classifier none trains nothing that 2 ranks could"):
        share_steps(cosine)
    grid = make_grid(["learning_rate=1e-3,1e-2"])
    with pytest.raises(ConfigError, match="a sweep trains its points one after another in one"):
        run_sweep(grid, lambda point: QUICK, voxceleb1_data, "logmel", tmp_path / "sweep")
    assert not list(tmp_path.iterdir())
