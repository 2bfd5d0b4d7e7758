"""What a dry run says of a downstream run, beside what the run then does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.models import DownstreamModel, HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.build import build_setup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.estimate import DownstreamEstimate, dev_share, estimate_downstream
from aalbert.train.run_folder import RunFolder

OPTIONS = ("--set", "epochs=2", "--set", "prefetch=0", "--set", "batch_seconds=4")


@pytest.mark.parametrize("cached", [False, True], ids=["features", "cached"])
def test_a_dry_run_says_what_the_run_does_and_writes_nothing(
    cached: bool,
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ["--data", str(voxceleb1_data), "--upstream", str(pretrained)]
    command = ["downstream", "voxceleb1", *places, *OPTIONS, "--out", str(tmp_path / "run")]
    command += ["--cache-embeddings", "--set", "batches_per_step=2"] * cached
    assert main([*command, "--dry-run", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []
    assert main(command) == 0
    run = tmp_path / "run"
    model = DownstreamModel.from_pretrained(run)
    assert expected["steps"] == RunFolder(run).read_metrics()[-1]["step"]
    assert expected["classes"] == len(model.classes)
    numbers = {name: sum(one.numel() for one in model.parameters()) for name in ("all",)}
    assert expected["parameters"] == numbers["all"]
    assert expected["trained_parameters"] == sum(one.numel() for one in model.head.parameters())
    assert expected["parts"]["train"]["utterances"] == model.training_facts["training_utterances"]
    assert 0 < expected["seconds_per_step"] < expected["seconds"] < 600
    assert (expected["caching_seconds"] > 0) == cached
    assert expected["peak_bytes"] > expected["state_bytes"] > 0


@pytest.mark.parametrize("cached", [False, True], ids=["features", "cached"])
def test_a_dry_run_counts_the_pass_that_standardises_states(
    cached: bool, voxceleb1_data: Path, pretrained: Path
) -> None:
    head = HeadConfig(standardise=True)
    config = DownstreamConfig(head=head, epochs=1, prefetch=0, cache_embeddings=cached)
    estimate = estimate_downstream(config, voxceleb1_data, str(pretrained))
    assert estimate.standardising_seconds > 0
    before = estimate.caching_seconds + estimate.standardising_seconds
    assert (estimate.caching_seconds > 0) == cached and estimate.seconds > before
    assert "of it to standardise states" in estimate.describe()


def test_the_dev_part_is_whole_beside_an_epoch_of_crops(voxceleb1_data: Path) -> None:
    config = DownstreamConfig(crop_seconds=0.5, prefetch=0)
    setup = build_setup(config, Dataset(voxceleb1_data), "logmel")
    seconds = setup.dataset.frames("logmel") / 100
    dev, train = seconds[setup.splits.dev].sum(), seconds[setup.splits.train]
    assert train.min() > 0.5
    assert dev_share(config, setup) == pytest.approx(dev / (0.5 * len(train)))
    for whole in (replace(config, crop_seconds=0), replace(config, cache_embeddings=True)):
        assert dev_share(whole, setup) == pytest.approx(dev / train.sum())
    tuned = replace(config, mode="fine-tuned")
    assert dev_share(tuned, setup) == pytest.approx(dev / (0.5 * len(train)) / 3)


def test_a_dry_run_of_fine_tuning_counts_the_encoder_as_trained(
    voxceleb1_data: Path, pretrained: Path
) -> None:
    config = DownstreamConfig(mode="fine-tuned", epochs=2, prefetch=0)
    estimate = estimate_downstream(config, voxceleb1_data, str(pretrained))
    assert estimate.trained_parameters == estimate.parameters
    assert "10 steps of" in estimate.describe() and "nothing was written" in estimate.describe()


def test_a_dry_run_of_cosines_says_that_nothing_is_trained(
    verification: DownstreamConfig, voxceleb1_data: Path
) -> None:
    estimate: DownstreamEstimate = estimate_downstream(verification, voxceleb1_data, "logmel")
    assert (estimate.steps, estimate.trained_parameters) == (0, 0)
    assert "in which nothing is trained" in estimate.describe()


def test_a_dry_run_of_a_sweep_lists_what_is_left_to_train(
    voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--data", str(voxceleb1_data), "--upstream", "logmel", "--out", str(tmp_path / "s")]
    quick = ["--set", "epochs=1", "--set", "prefetch=0"]
    command = ["sweep", "voxceleb1", *places, *quick]
    two, three = "--set=learning_rate=1e-3,1e-2", "--set=learning_rate=1e-3,1e-2,1e-1"
    assert main([*command, two, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 points, 2 of them are to be trained, the first in about " in printed
    assert main([*command, two, "--set=splits.dev=nowhere", "--dry-run"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*command, two]) == 0
    capsys.readouterr()
    assert main([*command, three, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [point["work"] for point in planned] == ["keep", "keep", "train"]
    assert [point["seconds"] is None for point in planned] == [True, True, False]
    assert [Path(point["run"]).is_dir() for point in planned] == [True, True, False]
