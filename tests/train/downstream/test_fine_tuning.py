from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel, PretrainedModel
from aalbert.train.downstream.config import (
    DownstreamConfig,
    FineTuningConfig,
)
from aalbert.train.downstream.run import start_downstream

# Batches are read in the process itself: starting another one takes longer than these runs.
QUICK = DownstreamConfig(epochs=1, learning_rate=1e-2, prefetch=0)


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    return DownstreamModel.from_pretrained(place).upstream.state_dict()


def moved(place: Path, pretrained: Path) -> set[str]:
    """The parts of the encoder that are not as they were."""
    before = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()
    after = weights_of(place)
    return {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}


def test_fine_tuning_changes_the_encoder_from_the_top_as_far_as_it_was_unfrozen(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    tuning = FineTuningConfig(encoder_learning_rate=1e-3, frozen_epochs=0)
    config = replace(QUICK, mode="fine-tuned", fine_tuning=tuning)
    start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "whole")
    assert {"layers", "projection", "input_norm"} <= moved(tmp_path / "whole", pretrained)
    gradual = replace(config, fine_tuning=replace(tuning, epochs_per_layer=1))
    start_downstream(gradual, voxceleb1_data, str(pretrained), tmp_path / "top")
    assert moved(tmp_path / "top", pretrained) == {"layers"}


def test_an_encoder_that_no_epoch_would_train_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="frozen_epochs 1 leave none of 1 epochs to train the encoder in: use few"
    ):
        DownstreamConfig(mode="fine-tuned", epochs=1)
    DownstreamConfig(mode="fine-tuned", epochs=2)
    DownstreamConfig(mode="from-scratch", epochs=1)


def test_from_scratch_starts_with_other_weights_and_ends_with_others_again(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    frozen = replace(QUICK, untrained=True)
    start_downstream(frozen, voxceleb1_data, str(pretrained), tmp_path / "fresh")
    scratch = replace(QUICK, mode="from-scratch")
    start_downstream(scratch, voxceleb1_data, str(pretrained), tmp_path / "scratch")
    name = "encoder.projection.weight"
    start, end = weights_of(tmp_path / "fresh")[name], weights_of(tmp_path / "scratch")[name]
    original = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()[name]
    assert not torch.equal(start, end) and not torch.equal(start, original)
    # A few steps from the fresh weights, far from the pretrained ones.
    assert (end - start).abs().mean() < 0.1 * (end - original).abs().mean()


def test_a_learning_rate_that_ruins_encoders_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from aalbert.train.downstream.module import warn_of_collapse

    warn_of_collapse(FineTuningConfig(encoder_learning_rate=1e-3))
    assert capsys.readouterr().err == ""
    warn_of_collapse(FineTuningConfig(encoder_learning_rate=0.1))
    assert "encoder_learning_rate is 0.1: an encoder trained at 0.1" in capsys.readouterr().err
