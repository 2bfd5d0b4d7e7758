import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import aalbert
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models import EncoderConfig, FrontEndConfig, PretrainedModel, UpstreamConfig
from aalbert.models.downstream import DownstreamModel
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.head_config import HeadConfig
from aalbert.models.static_batches import StaticShapes
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.features import extract
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.wave_settings import WaveSettings

SETTINGS = LogMelSettings(mels=20, wave=WaveSettings(loudness_db=-25.0))


def noise(seconds: float, seed: int = 0, rate: int = 16_000) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal(round(seconds * rate)).astype(np.float32) * np.float32(0.1)


def test_hidden_states_are_those_of_the_modules_one_after_another(model_folder: Path) -> None:
    wave = noise(0.7)
    model = aalbert.from_pretrained(model_folder)
    features = extract(condition(wave, 16_000, SETTINGS.wave), SETTINGS)
    pretrained = PretrainedModel.from_pretrained(model_folder)
    with torch.no_grad():
        states, _ = pretrained.upstream(
            torch.from_numpy(features).unsqueeze(0), torch.tensor([len(features)])
        )
    expected = torch.cat(states)
    found = model.extract(wave)
    assert found.shape == (3, 35, 16) == expected.shape
    assert (model.layers, model.width, model.frame_shift_ms) == (2, 16, 20.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not found.requires_grad
    torch.testing.assert_close(model.extract(wave, layers="last"), expected[-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.extract(wave, layers=1), expected[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.extract(wave, layers=-3), expected[0], rtol=0, atol=1e-5)
    mean = (expected[0] + expected[1] + expected[2]) / 3
    torch.testing.assert_close(model.extract(wave, layers="mean"), mean, rtol=0, atol=1e-5)


def test_pooling_is_over_frames(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder)
    wave = noise(0.5)
    frames = model.extract(wave).numpy()
    mean = model.extract(wave, pooling="mean").numpy()
    both = model.extract(wave, layers=0, pooling="mean+std").numpy()
    np.testing.assert_allclose(mean, frames.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(both[:16], frames[0].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(both[16:], frames[0].std(axis=0), atol=1e-6)


@pytest.mark.parametrize("batch_frames", [1, 300, 1000])
def test_other_waves_of_an_extraction_change_no_bit(model_folder: Path, batch_frames: int) -> None:
    model = aalbert.from_pretrained(model_folder)
    shapes = StaticShapes(frames_stacked=2, batch_frames=batch_frames)
    waves = [noise(0.05 + 0.3 * (number % 5), seed=number) for number in range(12)]
    features = [(number, model.features(wave, 16_000)) for number, wave in enumerate(waves)]
    alone = {number: states for item in features for number, states in model.embed([item], shapes)}
    for order in (features, features[::-1], features[4:] + features[:4]):
        for number, states in model.embed(order, shapes):
            assert all(map(torch.equal, states, alone[number]))
    together = model.extract(waves)
    assert all(
        torch.equal(each, model.extract(wave)) for each, wave in zip(together, waves, strict=True)
    )


def test_waves_come_as_numpy_arrays_tensors_and_integers(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder)
    numbers = (noise(0.4) * 32_768).astype(np.int16)
    floats = numbers.astype(np.float64) / 32_768
    expected = model.extract(numbers)
    assert torch.equal(model.extract(floats), expected)
    assert torch.equal(model.extract(torch.from_numpy(floats)), expected)
    for same in (numbers.astype(">i2"), floats.astype(">f4"), floats.astype(np.float64)):
        assert torch.equal(model.extract(same), expected)
    half = torch.from_numpy(floats).bfloat16()
    assert torch.equal(model.extract(half), model.extract(half.float()))


def test_another_sample_rate_is_resampled(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder)
    time = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    at_16_khz = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    found = model.extract(tone, sample_rate=48_000, pooling="mean")
    expected = model.extract(at_16_khz, pooling="mean")
    assert found.shape == expected.shape
    assert torch.nn.functional.cosine_similarity(found[-1], expected[-1], dim=0) > 0.95


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros((2, 16_000), np.float32), r"shape \(2, 16000\): give one channel, \(samples,\)"),
        (np.zeros(399, np.float32), "the wave is too short: 24.9 ms, one analysis window is 25.0"),
        (np.zeros(0, np.float32), "the wave is empty: it has no samples"),
        (np.array([0.0, np.nan] * 800), "the wave holds samples that are not finite"),
        (np.array([0.0, 1e39] * 800), r"not finite in float32 \(NaN, infinity or beyond 3e38\)"),
        (
            (np.zeros(800), 16_000),
            "a wave and its rate, 16000, are no list of waves: give the rate apart",
        ),
        (np.zeros(800, np.int64), "numbers of type int64: give floats in .* or int16"),
        ([0.1, 0.2], r"shape \(\): give one channel"),
    ],
)
def test_a_wave_that_cannot_be_used_is_refused(
    model_folder: Path, wave: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        aalbert.from_pretrained(model_folder).extract(wave)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"layers": 3}, r"no layer 3: hidden states are numbered 0 .* to 2 \(the last layer\)"),
        ({"layers": -4}, "no layer -4"),
        ({"layers": "first"}, "unknown layers 'first': use all, last, mean, weighted or a number"),
        ({"layers": "weighted"}, "this model has no learned mix"),
        ({"pooling": "max"}, r"unknown pooling 'max': use one of none, mean, mean\+std"),
        ({"sample_rate": 16}, "sample_rate is 16: it must be 1000 to 768000 Hz"),
    ],
)
def test_an_unknown_choice_is_refused(
    model_folder: Path, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        aalbert.from_pretrained(model_folder).extract(noise(0.3), **choice)


def test_gradients_flow_through_the_module_itself(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder)
    states, lengths = model([noise(0.3), noise(0.6)])
    assert [tuple(state.shape) for state in states] == [(2, 30, 16)] * 3
    assert lengths.tolist() == [15, 30]
    states[-1].sum().backward()
    assert model.upstream.encoder is not None
    assert model.upstream.encoder.projection.weight.grad is not None


def test_importing_the_package_loads_no_heavy_package() -> None:
    code = "import sys, aalbert; print(aalbert.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [aalbert.__version__, "False"]
    with pytest.raises(AttributeError, match="module 'aalbert' has no attribute 'loud'"):
        _ = aalbert.loud


@pytest.mark.parametrize("at_a_url", [False, True])
def test_a_checkpoint_of_s3prl_gives_the_numbers_of_s3prl(shared: Path, at_a_url: bool) -> None:
    golden = shared / "golden"
    waves, expected = (
        np.load(golden / name) for name in ("waves.npz", "s3prl_audio_albert_io.npz")
    )
    place = golden / "s3prl_audio_albert.ckpt"
    model = aalbert.from_pretrained(place.as_uri() if at_a_url else place)
    for name in ("wav0", "wav1"):
        found = model.extract(waves[name])
        assert found.shape == expected[f"hidden_{name}"].shape
        # The logarithm of a band in near silence magnifies the rounding of the spectrum.
        np.testing.assert_allclose(found, expected[f"hidden_{name}"], rtol=0, atol=2e-4)


def test_a_checkpoint_of_another_system_needs_no_conversion(
    model_folder: Path, tmp_path: Path
) -> None:
    """Written back by this package."""
    wave = noise(0.5)
    config = UpstreamConfig(
        features=asdict(SETTINGS),
        front_end=FrontEndConfig(feature_dims=20),
        encoder=EncoderConfig(
            layers=2,
            width=16,
            heads=2,
            feed_forward_width=32,
            initial_std=0.1,
            beyond_positions="restart",
        ),
    )
    model = PretrainedModel(config).eval()
    export_s3prl(model, tmp_path / "states.ckpt")
    found = aalbert.from_pretrained(tmp_path / "states.ckpt").extract(wave)
    model.save_pretrained(tmp_path / "model")
    expected = aalbert.from_pretrained(tmp_path / "model").extract(wave)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"mels": "20"}, {"mels": 21}, {"kind": "wav"}, {"wave": [1]}])
def test_features_that_the_model_cannot_read_are_named(
    model_folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    document = json.loads(path.read_text())
    document["upstream"]["features"].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"config\.json of .* does not describe a model"):
        aalbert.from_pretrained(tmp_path / "model")


def test_the_mix_of_a_downstream_run_weights_the_states(model_folder: Path, tmp_path: Path) -> None:
    upstream = PretrainedModel.from_pretrained(model_folder).upstream
    downstream = DownstreamModel(upstream, ["ann", "bob"], "weighted", HeadConfig())
    assert downstream.head.mix is not None
    with torch.no_grad():
        downstream.head.mix.logits.copy_(torch.tensor([0.5, -1.0, 2.0]))
    downstream.save_pretrained(tmp_path)
    model = aalbert.from_pretrained(tmp_path)
    wave = noise(0.4)
    weights = np.exp([0.5, -1.0, 2.0]) / np.exp([0.5, -1.0, 2.0]).sum()
    expected = np.einsum("s,sfw->fw", weights, model.extract(wave).numpy())
    np.testing.assert_allclose(model.extract(wave, layers="weighted"), expected, atol=1e-6)


@pytest.mark.gpu
def test_other_waves_of_an_extraction_change_no_bit_on_a_gpu(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder, "cuda")
    waves = [noise(0.3 + 0.4 * (number % 7), seed=number) for number in range(40)]
    together = model.extract(waves)
    for wave, states in zip(waves, together, strict=True):
        assert torch.equal(model.extract(wave), states)


def test_a_model_at_a_url_is_opened(model_folder: Path) -> None:
    wave = noise(0.3)
    found = aalbert.from_pretrained(model_folder.as_uri())
    assert torch.equal(found.extract(wave), aalbert.from_pretrained(model_folder).extract(wave))
