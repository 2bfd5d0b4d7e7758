import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pytorch_lightning import Trainer

from aalbert.errors import ConfigError, InterruptedRunError
from aalbert.models import (
    DownstreamModel,
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    UpstreamConfig,
)
from aalbert.models.head_config import LayerChoice
from aalbert.models.upstream import Upstream
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.train.downstream.config import (
    DownstreamConfig,
    FineTuningConfig,
)
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.loop.stop_signals import StopOnSignal
from aalbert.train.run_folder import RunFolder

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


def test_a_run_that_stopped_within_an_epoch_goes_on_as_if_it_had_not(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout from the first step after the stop on."""
    config = replace(QUICK, mode="fine-tuned", epochs=3, batch_seconds=2.0)
    start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "whole")
    ends = [row["step"] for row in RunFolder(tmp_path / "whole").read_metrics()]
    at_end_of_batch = StopOnSignal.on_train_batch_end

    def stop(self: StopOnSignal, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == ends[-1] - 2:
            self.listener.received = signal.SIGTERM
        at_end_of_batch(self, trainer, *rest)

    run = tmp_path / "stopped"
    with monkeypatch.context() as patched, pytest.raises(InterruptedRunError):
        patched.setattr(StopOnSignal, "on_train_batch_end", stop)
        start_downstream(config, voxceleb1_data, str(pretrained), run)
    resume_downstream(run, config.task)
    losses, expected = (
        [(row["step"], row.get("train_loss"), row.get("dev_loss")) for row in each.read_metrics()]
        for each in (RunFolder(run), RunFolder(tmp_path / "whole"))
    )
    assert losses == expected


def test_an_encoder_that_no_epoch_would_train_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="frozen_epochs 1 leave none of 1 epochs to train the encoder in: use few"
    ):
        DownstreamConfig(mode="fine-tuned", epochs=1)
    DownstreamConfig(mode="fine-tuned", epochs=2)
    DownstreamConfig(mode="from-scratch", epochs=1)


@pytest.mark.parametrize("layers", ["last", "weighted", 2, 0])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_trained_is_what_has_a_gradient(
    layers: LayerChoice, norm: Literal["pre", "post"], shared: bool
) -> None:
    """Several ranks wait for the gradient of everything that is trained."""
    encoder = EncoderConfig(layers=3, width=16, heads=2, norm=norm, share_layers=shared)
    config = UpstreamConfig(
        features=asdict(LogMelSettings(mels=20)),
        front_end=FrontEndConfig(feature_dims=20),
        encoder=encoder,
    )
    model = DownstreamModel(Upstream(config), ["a", "b"], layers, HeadConfig(), frozen=False)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    model.requires_grad_(True)
    model(torch.randn(2, 30, 20), torch.tensor([30, 20])).square().sum().backward()
    assert trained == {name for name, weight in model.named_parameters() if weight.grad is not None}


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
