import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError
from aalbert.models import PretrainedModel
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.pretrained import TargetConfig
from aalbert.models.upstream import UpstreamConfig
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.prepare import prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.loading.batch import Batch
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.pretraining.build import (
    PretrainSelections,
    build_model,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import MaskingConfig, ObjectiveConfig, PretrainConfig
from aalbert.train.pretraining.figure import reconstruction_figure
from aalbert.train.pretraining.module import Pretraining, held_out_loss
from aalbert.train.pretraining.reconstruction import measure_errors, reconstruct
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.recipes import read_recipe
from aalbert.train.report.figures import to_png


@pytest.fixture
def config(pretrain_config: PretrainConfig) -> PretrainConfig:
    """Settings without dropout, which depends on the shape of a batch, and without a reader."""
    return replace(
        pretrain_config,
        encoder=replace(pretrain_config.encoder, dropout=0.0),
        data=replace(pretrain_config.data, prefetch=0),
    )


def selections_of(config: PretrainConfig, data: Path) -> PretrainSelections:
    return select_utterances(config, [Dataset(data)])


def first_batch(config: PretrainConfig, selections: PretrainSelections) -> Batch:
    return next(iter(make_loaders(config, selections)[0]))


def batched(config: PretrainConfig, batching: str, **data: float) -> PretrainConfig:
    return replace(config, data=replace(config.data, batching=batching, **data))  # type: ignore[arg-type]


@pytest.mark.parametrize("stacked", [1, 3])
def test_batching_changes_nothing_but_the_layout(
    librispeech_data: Path, config: PretrainConfig, stacked: int
) -> None:
    """One batch of all utterances, padded, static and packed, gives one loss and one gradient."""
    front_end = replace(config.front_end, frames_stacked=stacked)
    masking = MaskingConfig(consecutive=(2, 4), band_share=0.2, noise_share=0.3)
    objective = ObjectiveConfig(targets={"logmel": 1.0, "linear": 0.5})
    config = replace(config, front_end=front_end, masking=masking, objective=objective)
    selections = selections_of(config, librispeech_data)
    model = build_model(config, selections)
    found = []
    for batching in ("padded", "static", "packed"):
        settings = batched(config, batching, batch_seconds=100.0)
        result = reconstruct(model, first_batch(settings, selections), masking, seed=3)
        model.zero_grad()
        loss = measure_errors(result, objective).loss(objective)
        loss.backward()  # type: ignore[no-untyped-call]
        weight = model.upstream.encoder.projection.weight.grad  # type: ignore[union-attr]
        assert isinstance(weight, torch.Tensor)
        found.append((loss.detach(), weight.clone()))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-6)


def test_held_out_loss_does_not_depend_on_the_size_of_batches(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = replace(config, data=replace(config.data, validation_proportion=0.5))
    selections = selections_of(config, librispeech_data)
    module = Pretraining(build_model(config, selections), config).eval()
    losses = []
    for settings in (config, batched(config, "padded", batch_seconds=2.0)):
        loader = make_loaders(settings, selections)[1]
        measured = held_out_loss(module, loader, Ranks(), SignalListener())
        assert measured is not None
        losses.append(measured["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_masks_follow_the_seed(librispeech_data: Path, config: PretrainConfig) -> None:
    selections = selections_of(config, librispeech_data)
    model, batch = build_model(config, selections), first_batch(config, selections)
    one, same, other = (reconstruct(model, batch, config.masking, seed) for seed in (1, 1, 2))
    assert torch.equal(one.inputs, same.inputs)
    assert not torch.equal(one.mask.frames, other.mask.frames)


def test_every_target_is_its_stored_feature_normalised_like_the_input(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = replace(
        config,
        front_end=replace(config.front_end, normalisation="utterance", frames_stacked=1),
        objective=ObjectiveConfig(targets={"linear": 1.0}),
    )
    selections = selections_of(config, librispeech_data)
    batch = first_batch(config, selections)
    result = reconstruct(build_model(config, selections), batch, config.masking, seed=1)
    assert result.targets.keys() == result.predicted.keys() == {"linear"}
    stored = batch.targets["linear"][0, : int(batch.lengths[0])].float()
    expected = (stored - stored.mean(dim=0)) / stored.std(dim=0)
    found = result.targets["linear"][result.frames.utterance == 0][: len(expected)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_global_normalisation_of_a_target_uses_its_own_statistics(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = replace(config, objective=ObjectiveConfig(targets={"linear": 1.0}))
    selections = selections_of(config, librispeech_data)
    result = reconstruct(
        build_model(config, selections),
        first_batch(batched(config, "padded", batch_seconds=100.0), selections),
        config.masking,
        seed=1,
    )
    assert abs(float(result.targets["linear"][result.frames.real].mean())) < 0.1


def test_the_learned_token_replaces_masked_frames_and_is_trained(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    masking = MaskingConfig(consecutive=1, random_share=0.0, keep_share=0.0, learned_token=True)
    config = replace(config, masking=masking)
    selections = selections_of(config, librispeech_data)
    model = build_model(config, selections)
    assert model.mask_token is not None
    result = reconstruct(model, first_batch(config, selections), masking, seed=1)
    masked = result.inputs[result.mask.frames]
    assert torch.equal(masked, model.mask_token.expand_as(masked))
    measure_errors(result, config.objective).loss(config.objective).backward()  # type: ignore[no-untyped-call]
    assert model.mask_token.grad is not None and model.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize("share_layers", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_overfitting_one_batch_reaches_a_tenth_of_the_first_loss(
    librispeech_data: Path, config: PretrainConfig, share_layers: bool
) -> None:
    """The mask never changes, so that the model can memorise the batch."""
    encoder = replace(config.encoder, width=64, feed_forward_width=128, share_layers=share_layers)
    masking = MaskingConfig(consecutive=1, random_share=0.0, keep_share=0.0)
    config = replace(config, encoder=encoder, masking=masking)
    config = batched(config, "padded", batch_seconds=2.0, crop_seconds=0.9)
    selections = selections_of(config, librispeech_data)
    model, batch = build_model(config, selections), first_batch(config, selections)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(160):
        errors = measure_errors(reconstruct(model, batch, config.masking, seed=1), config.objective)
        loss = errors.loss(config.objective)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 10


def test_gradients_are_clipped_to_the_allowed_norm(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = replace(config, optimiser=replace(config.optimiser, gradient_clip=0.01))
    module = Pretraining(build_model(config, selections_of(config, librispeech_data)), config)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()))
    gradients = torch.cat([weight.grad.flatten() for weight in module.parameters()])  # type: ignore[union-attr]
    assert float(gradients.norm()) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_adamw_is_fused_where_lightning_can_clip(
    librispeech_data: Path, config: PretrainConfig, precision: str
) -> None:
    config = replace(config, precision=precision)  # type: ignore[arg-type]
    module = Pretraining(build_model(config, selections_of(config, librispeech_data)), config)
    optimiser = module.configure_optimizers()["optimizer"]
    assert optimiser.defaults["fused"] is (precision != "16-mixed")
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.01, 0.0]


def validation_losses(run: Path) -> list[float]:
    """Return the held-out losses of a run, in order."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["validation_loss"] for row in rows if "validation_loss" in row]


@pytest.mark.parametrize(
    "share_layers",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["aalbert", "mockingjay"],
)
def test_the_held_out_loss_falls(
    librispeech_data: Path, config: PretrainConfig, share_layers: bool, tmp_path: Path
) -> None:
    encoder = replace(config.encoder, share_layers=share_layers)
    config = replace(config, encoder=encoder, steps=60, validate_every_steps=20)
    start_pretraining(config, [librispeech_data], tmp_path / "run")
    losses = validation_losses(tmp_path / "run")
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.95 * losses[0]


@pytest.fixture(scope="module")
def librispeech_100_minutes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recorded") / "data"
    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(read_librispeech(shared / "data" / "LibriSpeech"), out, config)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("share_layers", [True, False], ids=["aalbert", "mockingjay"])
def test_the_held_out_loss_falls_on_recorded_speech(
    librispeech_100_minutes: Path, share_layers: bool, tmp_path: Path
) -> None:
    config = read_recipe("tiny")
    encoder = replace(config.encoder, share_layers=share_layers)
    config = replace(config, encoder=encoder, steps=1000, validate_every_steps=250)
    start_pretraining(config, [librispeech_100_minutes], tmp_path / "run")
    losses = validation_losses(tmp_path / "run")
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
# PyTorch 2.11 imports its own deprecated decorator when it compiles.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_encoder_gives_the_same_loss(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = batched(config, "static")
    selections = selections_of(config, librispeech_data)
    batch = first_batch(config, selections)
    losses = []
    for settings in (config, replace(config, compile=True)):
        module = Pretraining(build_model(settings, selections), settings)
        errors = measure_errors(
            reconstruct(module.model, batch, settings.masking, seed=1), settings.objective
        )
        losses.append(errors.loss(settings.objective))
        losses[-1].backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.fixture
def no_synchronisation() -> Iterator[None]:
    """Raise an error whenever something waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("batching", ["padded", "static", "packed"])
def test_a_step_never_waits_for_the_device(
    librispeech_data: Path, config: PretrainConfig, batching: str, request: pytest.FixtureRequest
) -> None:
    masking = MaskingConfig(band_share=0.2, noise_share=0.15, learned_token=True)
    objective = ObjectiveConfig(targets={"logmel": 1.0, "linear": 0.5})
    config = batched(replace(config, masking=masking, objective=objective), batching)
    selections = selections_of(config, librispeech_data)
    module = Pretraining(build_model(config, selections), config).cuda()
    optimiser = module.configure_optimizers()["optimizer"]
    module.on_train_start()
    batch = first_batch(config, selections).to(torch.device("cuda"))
    request.getfixturevalue("no_synchronisation")
    for seed in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            errors = measure_errors(reconstruct(module.model, batch, masking, seed), objective)
        errors.loss(objective).backward()  # type: ignore[no-untyped-call]
        module.configure_gradient_clipping(optimiser)
        optimiser.step()
        optimiser.zero_grad()


def test_utterances_that_are_too_short_are_left_out(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    dataset = Dataset(librispeech_data)
    frames = dataset.frames("logmel")
    config = batched(config, "padded", shortest_seconds=1.5)
    selections = selections_of(config, librispeech_data)
    kept = sorted({*selections.training[0].rows.tolist(), *selections.validation[0].rows.tolist()})
    assert kept == [row for row, count in enumerate(frames) if count >= 150]
    assert 2 < len(kept) < len(dataset)
    config = batched(config, "padded", crop_seconds=3.0, shortest_seconds=2.5)
    with pytest.raises(ConfigError, match=r"has 0 utterances of at least 2\.5 s in splits train"):
        selections_of(config, librispeech_data)


def test_data_of_other_settings_than_the_recipes_are_refused_with_the_difference(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    data = replace(config.data, features={"logmel": {"mels": 20, "fft_size": 2046}})
    with pytest.raises(ConfigError, match="--set data.features=null") as caught:
        selections_of(replace(config, data=data), librispeech_data)
    assert list(caught.value.details) == ["fft_size: expected 2046, found 400"]
    data = replace(config.data, features={"logmel": {"mels": 20}})
    assert selections_of(replace(config, data=data), librispeech_data)


def test_a_target_that_is_not_stored_is_refused(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    config = replace(config, objective=ObjectiveConfig(targets={"mfcc": 1.0}))
    with pytest.raises(ConfigError, match="has no feature 'mfcc': it has logmel, linear"):
        selections_of(config, librispeech_data)


def test_a_picture_shows_the_frames_that_all_features_have() -> None:
    model = PretrainedModel(
        UpstreamConfig(
            features={"kind": "logmel", "frame_shift_ms": 10.0},
            front_end=FrontEndConfig(feature_dims=4),
            encoder=EncoderConfig(width=8, heads=2, layers=1, feed_forward_width=8),
        ),
        (TargetConfig(feature="fbank", dims=5),),
    ).eval()
    features = {
        "logmel": np.zeros((50, 4), np.float16),
        "fbank": np.zeros((48, 5), np.float16),
    }
    figure = reconstruction_figure(model, features, MaskingConfig())
    *panels, colours = figure.axes
    assert [axes.images[0].get_size() for axes in panels] == [(5, 48)] * 3
    assert panels[-1].get_xlabel() == "time (s)"
    assert panels[1].get_ylabel() == "number of the frame"
    assert colours.get_xlabel() == "value, as the loss compares it"


def test_four_pictures_of_a_long_utterance_leave_a_page_below_3_mb() -> None:
    model = PretrainedModel(
        UpstreamConfig(
            features={"kind": "logmel", "frame_shift_ms": 10.0},
            front_end=FrontEndConfig(feature_dims=80),
            encoder=EncoderConfig(width=8, heads=2, layers=1, feed_forward_width=8),
        ),
        (TargetConfig(feature="logmel", dims=80),),
    ).eval()
    # Noise is what a PNG file shrinks least.
    noise = np.random.default_rng(0).normal(size=(1_000, 80)).astype(np.float16)
    picture = to_png(reconstruction_figure(model, {"logmel": noise}, MaskingConfig()))
    assert 4 * len(picture) * 4 / 3 < 2_700_000
