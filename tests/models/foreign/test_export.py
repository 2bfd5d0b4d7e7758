"""Models written as s3prl has them: torch reads them safely, and they come back exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aalbert.models import EncoderConfig, FrontEndConfig, PretrainedModel, UpstreamConfig
from aalbert.models.foreign.detect import read_foreign
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.foreign.s3prl_limits import LayoutError
from aalbert.models.pretrained import TargetConfig
from tests.models.foreign.transformers import (
    Reference,
    Sizes,
    make_head,
    make_transformer,
    s3prl_2019,
    s3prl_2022,
)

ENCODER = EncoderConfig(layers=3, width=16, heads=2, feed_forward_width=24)
WAVE = {"silence": None, "gain_db": 0.0, "loudness_db": -25.0}
LOGMEL: dict[str, Any] = {
    "kind": "logmel",
    "sample_rate": 16_000,
    "fft_size": 400,
    "window_length_ms": 25.0,
    "frame_shift_ms": 10.0,
    "mels": 20,
    "log_offset": 1e-10,
    "wave": WAVE,
}
FBANK: dict[str, Any] = {
    "kind": "fbank",
    "sample_rate": 16_000,
    "window_length_ms": 25.0,
    "frame_shift_ms": 10.0,
    "mels": 20,
    "amplitude": "unit",
    "wave": {**WAVE, "loudness_db": None},
}


def make_model(
    encoder: EncoderConfig = ENCODER,
    features: dict[str, Any] = LOGMEL,
    targets: tuple[TargetConfig, ...] | None = None,
    **front_end: Any,
) -> PretrainedModel:
    torch.manual_seed(3)
    config = UpstreamConfig(
        features=features,
        front_end=FrontEndConfig(feature_dims=20, **front_end),
        encoder=encoder,
        training={"steps": 70, "mask_proportion": 0.15, "learning_rate": 1.0},
    )
    model = PretrainedModel(config, targets).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def come_back(path: Path, features: dict[str, Any] = LOGMEL) -> PretrainedModel:
    foreign = read_foreign(path)
    assert foreign.features is not None
    features = {
        **features,
        **{name: foreign.features[name] for name in foreign.features if name != "wave"},
    }
    return foreign.build(features, FrontEndConfig(feature_dims=20, **foreign.front_end))


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("share_layers", [True, False])
def test_a_model_comes_back_exactly(tmp_path: Path, share_layers: bool, norm: Any) -> None:
    encoder = replace(
        ENCODER, share_layers=share_layers, norm=norm, position_frames=1500, initial_std=0.1
    )
    model = make_model(encoder)
    assert export_s3prl(model, tmp_path / "states.ckpt") == ()
    copy = come_back(tmp_path / "states.ckpt")
    assert copy.config.encoder == encoder
    assert copy.config.front_end == model.config.front_end
    assert copy.targets == model.targets
    assert copy.config.training == {"steps": 70, "mask_proportion": 0.15}
    assert copy.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor), name


@pytest.mark.parametrize("shared", [True, False])
def test_a_checkpoint_of_s3prl_comes_back_exactly(tmp_path: Path, shared: bool) -> None:
    sizes = Sizes(shared=shared, norms_first=not shared)
    original = s3prl_2022(sizes, make_transformer(sizes), make_head(sizes))
    torch.save(original, tmp_path / "a.ckpt")
    export_s3prl(come_back(tmp_path / "a.ckpt"), tmp_path / "b.ckpt")
    written = torch.load(tmp_path / "b.ckpt", weights_only=True)
    for group in ("Transformer", "SpecHead"):
        assert written[group].keys() == original[group].keys()
        for name, tensor in original[group].items():
            assert torch.equal(written[group][name], tensor), name
    for group in ("audio", "task"):
        wanted = original["Upstream_Config"][group]
        assert {name: written["Upstream_Config"][group][name] for name in wanted} == wanted
    transformer = written["Upstream_Config"]["transformer"]
    assert (transformer["share_layer"], transformer["pre_layer_norm"]) == (shared, not shared)
    assert transformer["layer_norm_eps"] == 1e-12


def test_an_old_checkpoint_becomes_one_of_today(tmp_path: Path) -> None:
    sizes = Sizes()
    tensors, head = make_transformer(sizes), make_head(sizes)
    torch.save(s3prl_2019(sizes, tensors, head), tmp_path / "old.ckpt")
    foreign = read_foreign(tmp_path / "old.ckpt")
    export_s3prl(foreign.build(LOGMEL, FrontEndConfig(feature_dims=20)), tmp_path / "new.ckpt")
    model = come_back(tmp_path / "new.ckpt")
    inputs = torch.randn(1, 30, 20)
    assert model.upstream.encoder is not None
    with torch.no_grad():
        last = model.upstream.encoder(inputs, torch.tensor([30]))[-1][0]
    expected = Reference(sizes, tensors, head).states(inputs[0])[-1]
    assert torch.allclose(last.double(), expected, atol=1e-5)


def test_a_shared_layer_is_listed_under_every_number_and_stored_once(tmp_path: Path) -> None:
    deep = replace(ENCODER, layers=12)
    export_s3prl(make_model(ENCODER), tmp_path / "3.ckpt")
    export_s3prl(make_model(deep), tmp_path / "12.ckpt")
    tensors = torch.load(tmp_path / "12.ckpt", weights_only=True)["Transformer"]
    assert len(tensors) == 4 + 12 * 16
    weights = 4 * sum(parameter.numel() for parameter in make_model().parameters())
    assert (tmp_path / "12.ckpt").stat().st_size - (tmp_path / "3.ckpt").stat().st_size < weights


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_s3prl(make_model(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_features_of_kaldi_come_back(tmp_path: Path, kind: str) -> None:
    features: dict[str, Any] = {**FBANK, "kind": kind}
    if kind == "mfcc":
        features |= {"mels": 23, "cepstra": 20, "lifter": 22.0}
    target = TargetConfig(feature=kind, dims=20, deltas=2)
    model = make_model(features=features, targets=(target,), deltas=2, delta_window=7)
    assert export_s3prl(model, tmp_path / "states.ckpt") == ()
    foreign = read_foreign(tmp_path / "states.ckpt")
    wave = features.pop("wave")
    assert wave["loudness_db"] is None
    assert foreign.features == features
    copy = come_back(tmp_path / "states.ckpt", {**FBANK, **features})
    assert copy.config.front_end == model.config.front_end
    assert copy.targets == model.targets


def test_what_is_left_out_or_a_little_different_is_told(tmp_path: Path) -> None:
    targets = (
        TargetConfig(feature="linear", dims=257),
        TargetConfig(feature="logmel", dims=20),
    )
    quiet = {**LOGMEL, "wave": {**WAVE, "loudness_db": None}}
    model = make_model(features=quiet, targets=targets)
    model.mask_token = torch.nn.Parameter(torch.ones(20))
    notes = export_s3prl(model, tmp_path / "states.ckpt")
    assert [note.partition(":")[0] for note in notes] == [
        "the head that predicts linear (257 dims) is left out",
        "the mask token is left out",
        "s3prl will scale the wave to -25 dB; normalisation undoes it, but for 1e-10",
    ]
    assert come_back(tmp_path / "states.ckpt").targets == targets[1:]


def test_a_linear_target_is_kept_where_the_fft_is_the_same(tmp_path: Path) -> None:
    target = TargetConfig(feature="linear", dims=201)
    assert export_s3prl(make_model(targets=(target,)), tmp_path / "states.ckpt") == ()
    assert come_back(tmp_path / "states.ckpt").targets == (target,)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: make_model(replace(ENCODER, share_query_key=True)), "no encoder.share_query_key"),
        (
            lambda: make_model(replace(ENCODER, input_width=48)),
            "no encoder.input_width 48, only one matrix from the input to encoder.width",
        ),
        (
            lambda: make_model(replace(ENCODER, positions="learned", position_frames=100)),
            "no encoder.positions learned, only sinusoidal",
        ),
        (lambda: make_model(frames_stacked=3), "no front_end.frames_stacked 3, only 1"),
        (lambda: make_model(normalisation="global"), "no normalisation 'global'"),
        (lambda: make_model(delta_window=7), "no front_end.delta_window 7, only 5"),
        (lambda: make_model(features={**LOGMEL, "log_offset": 1e-6}), "no logmel.log_offset 1e-06"),
        (
            lambda: make_model(features={**LOGMEL, "sample_rate": 8000}),
            "no logmel.sample_rate 8000",
        ),
        (
            lambda: make_model(features={**LOGMEL, "wave": {**WAVE, "gain_db": 3.0}}),
            "no wave.gain_db 3.0, only 0",
        ),
        (
            lambda: make_model(
                features={**LOGMEL, "wave": {**WAVE, "loudness_db": None}}, normalisation="none"
            ),
            "s3prl always scales the wave to a loudness",
        ),
        (lambda: make_model(features={**FBANK, "amplitude": "int16"}), "no fbank.amplitude int16"),
        (lambda: make_model(features={**FBANK, "wave": WAVE}), r"\(-25.0 dB\) before fbank"),
        (
            lambda: make_model(features={**FBANK, "kind": "energy"}),
            "s3prl has no feature energy, only logmel, linear, fbank, mfcc",
        ),
    ],
)
def test_what_s3prl_cannot_be_is_refused_and_nothing_written(
    tmp_path: Path, model: Any, message: str
) -> None:
    with pytest.raises(LayoutError, match=message):
        export_s3prl(model(), tmp_path / "states.ckpt")
    assert list(tmp_path.iterdir()) == []
