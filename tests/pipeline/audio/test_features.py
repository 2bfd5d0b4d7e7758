import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray
from torchaudio.compliance import kaldi

from aalbert.models.standalone.features_aalbert import WaveFeatures
from aalbert.pipeline.audio.features import extract
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from tests.waves import EMPTY_BANDS

GOLDEN: dict[str, FeatureSettings] = {
    "logmel80_nfft400": LogMelSettings(),
    "logmel80_nfft2046": LogMelSettings(fft_size=2046),
    "kaldi_fbank80_float": FbankSettings(),
    "kaldi_fbank80_int16scale": FbankSettings(amplitude="int16"),
    "kaldi_mfcc13": MfccSettings(),
    "linear201_log": LinearSettings(),
}
EVERY_KIND = [LogMelSettings(), FbankSettings(), MfccSettings(), LinearSettings()]
TOLERANCE = 2e-3
# A bin of the plain spectrum may be a difference of large numbers, which mel sums hide.
LINEAR_TOLERANCE = 1e-2


def unit(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32_768)


def noise(samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).uniform(-0.5, 0.5, samples).astype(np.float32)


def tolerance(name: str) -> float:
    return LINEAR_TOLERANCE if name.startswith("linear") else TOLERANCE


def speech_like(seconds: float, sample_rate: int, seed: int) -> NDArray[np.float32]:
    """Noise whose spectrum falls and whose level moves over 40 dB, with a constant offset."""
    rng = np.random.default_rng(seed)
    count = round(seconds * sample_rate)
    noise = np.convolve(rng.normal(0, 0.02, count), 0.95 ** np.arange(60), mode="same")
    level = 10 ** (np.sin(np.arange(count) / sample_rate * 9) - 1)
    wave: NDArray[np.float32] = (noise * level + 0.003).astype(np.float32)
    return wave


@pytest.mark.parametrize("name", GOLDEN)
def test_features_are_those_of_the_reference_systems(name: str) -> None:
    golden = np.load(Path(__file__).with_name("golden_features.npz"))
    expected = golden[name]
    features = extract(unit(golden["wave"]), GOLDEN[name])[: len(expected)]
    np.testing.assert_allclose(features, expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize(
    ("name", "wave"),
    [(name, wave) for name in GOLDEN for wave in ("wav0", "wav1")][:-1],  # linear: wav0 only
)
def test_features_are_those_in_the_shared_golden_files(shared: Path, name: str, wave: str) -> None:
    samples = np.load(shared / "golden/waves.npz")[wave]
    golden = np.load(shared / "golden/features.npz")
    features = extract(unit(samples), GOLDEN[name])
    np.testing.assert_allclose(features, golden[f"{name}_{wave}"], rtol=0, atol=tolerance(name))


def test_logmel_is_what_its_definition_in_numpy_gives() -> None:
    wave = noise(3000)
    padded = np.pad(wave.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[at : at + 400] for at in range(0, len(padded) - 399, 160)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    mel_points = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82)
    hertz = 700 * (10 ** (mel_points / 2595) - 1)
    bins = np.linspace(0, 8000, 201)[:, None]
    rising = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    expected = np.log(power @ filters + 1e-10)
    np.testing.assert_allclose(extract(wave, LogMelSettings()), expected, atol=TOLERANCE)


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 561, 1600, 16_000, 16_159])
def test_the_number_of_frames_follows_from_the_number_of_samples(samples: int) -> None:
    wave = noise(samples)
    assert extract(wave, LogMelSettings()).shape == (1 + samples // 160, 80)
    assert extract(wave, FbankSettings()).shape == (1 + (samples - 400) // 160, 80)


@pytest.mark.parametrize("settings", GOLDEN.values(), ids=GOLDEN)
def test_one_window_of_samples_is_enough_for_a_frame(settings: FeatureSettings) -> None:
    assert settings.window_samples == 400
    features = extract(noise(400), settings)
    assert len(features) >= 1
    assert np.isfinite(features).all()


def test_settings_change_the_features() -> None:
    wave = noise(8_000)
    settings = LogMelSettings(mels=40, frame_shift_ms=20.0, window_length_ms=20.0)
    assert settings.window_samples == 320
    assert extract(wave, settings).shape == (1 + 8_000 // 320, 40)


def test_fbank_at_int16_scale_is_louder_by_that_scale() -> None:
    wave = noise(8_000)
    louder = extract(wave, FbankSettings(amplitude="int16")) - extract(wave, FbankSettings())
    np.testing.assert_allclose(louder, 2 * np.log(32_768), atol=1e-2)


def test_features_do_not_depend_on_what_was_computed_before() -> None:
    first = extract(noise(5_000), LogMelSettings())
    extract(noise(999), LogMelSettings(mels=40))
    np.testing.assert_array_equal(extract(noise(5_000), LogMelSettings()), first)


def torch_power(
    wave: NDArray[np.floating[Any]], settings: LogMelSettings | LinearSettings
) -> torch.Tensor:
    window, samples = settings.window_samples, torch.from_numpy(wave)
    spectrum = torch.stft(
        samples,
        n_fft=settings.fft_size,
        hop_length=settings.shift_samples,
        win_length=window,
        window=torch.hann_window(window, dtype=samples.dtype),
        return_complex=True,
    )
    return spectrum.abs().square().T


def by_torchaudio(
    wave: NDArray[np.floating[Any]], settings: FeatureSettings
) -> NDArray[np.floating[Any]]:
    if isinstance(settings, LinearSettings):
        features = torch.log(torch_power(wave, settings) + settings.log_offset)
    elif isinstance(settings, LogMelSettings):
        filters = torchaudio.functional.melscale_fbanks(
            settings.fft_size // 2 + 1,
            0.0,
            settings.sample_rate / 2,
            settings.mels,
            settings.sample_rate,
        )
        power = torch_power(wave, settings)
        features = torch.log(power @ filters.to(power.dtype) + settings.log_offset)
    else:
        assert isinstance(settings, FbankSettings | MfccSettings)
        scaled = torch.from_numpy(wave)[None] * (32_768 if settings.amplitude == "int16" else 1)
        common = {
            "sample_frequency": settings.sample_rate,
            "frame_length": settings.window_length_ms,
            "frame_shift": settings.frame_shift_ms,
            "num_mel_bins": settings.mels,
        }
        if isinstance(settings, FbankSettings):
            features = kaldi.fbank(scaled, **common)
        else:
            cepstra = {"num_ceps": settings.cepstra, "cepstral_lifter": settings.lifter}
            features = kaldi.mfcc(scaled, **common, **cepstra)
    array: NDArray[np.floating[Any]] = features.numpy()
    return array


def random_settings(kind: str, seed: int) -> FeatureSettings:
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([8_000, 16_000, 22_050, 44_100, 48_000]))
    window_ms = float(rng.choice([20.0, 25.0, 32.0, 50.0]))
    shift_ms = float(rng.choice([5.0, 10.0, 12.5, 20.0]))
    mels = int(rng.choice([13, 23, 30]))
    window = int(rate * window_ms / 1000)
    fft_size = window + window % 2 + int(rng.choice([0, 2, 112, 600]))
    if kind == "logmel":
        return LogMelSettings(
            sample_rate=rate,
            window_length_ms=window_ms,
            frame_shift_ms=shift_ms,
            mels=mels,
            fft_size=fft_size,
            log_offset=float(rng.choice([1e-10, 1e-6])),
        )
    if kind == "linear":
        return LinearSettings(
            sample_rate=rate, window_length_ms=window_ms, frame_shift_ms=shift_ms, fft_size=fft_size
        )
    if kind == "fbank":
        return FbankSettings(
            sample_rate=rate,
            window_length_ms=window_ms,
            frame_shift_ms=shift_ms,
            mels=mels,
            amplitude="int16" if seed % 2 else "unit",
        )
    return MfccSettings(
        sample_rate=rate,
        window_length_ms=window_ms,
        frame_shift_ms=shift_ms,
        mels=mels,
        cepstra=int(rng.integers(1, 14)),
        lifter=float(rng.choice([0.0, 22.0])),
        amplitude="int16" if seed % 2 else "unit",
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["logmel", "fbank", "mfcc", "linear"])
def test_features_are_those_of_torchaudio_under_any_settings(kind: str, seed: int) -> None:
    settings = random_settings(kind, seed)
    wave = speech_like(2.0, settings.sample_rate, seed)
    features, expected = extract(wave, settings), by_torchaudio(wave, settings)
    assert features.shape == expected.shape
    differences = np.abs(features - expected)
    # The cosine transform adds up mels, and the lifter multiplies by up to 12.
    larger = {"mfcc": 10, "linear": 4}.get(kind, 1)
    assert differences.max() < 5e-3 * larger
    assert differences.mean() < 1e-5 * larger


def by_standalone(wave: NDArray[np.float32], settings: FeatureSettings) -> NDArray[np.float32]:
    """Features as models compute them without this package."""
    batch, lengths = torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    features: NDArray[np.float32] = WaveFeatures(asdict(settings))(batch, lengths)[0].numpy()
    return features


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["logmel", "fbank", "mfcc", "linear"])
def test_standalone_features_are_those_of_torchaudio_in_float64(kind: str, seed: int) -> None:
    settings = random_settings(kind, seed)
    wave = speech_like(1.0, settings.sample_rate, seed)
    features, expected = by_standalone(wave, settings), by_torchaudio(wave.astype(float), settings)
    # Where torchaudio has tables in float32, their rounding counts; it has none for linear.
    atol = {"linear": 2e-6, "mfcc": 1e-3}.get(kind, 2e-5)
    np.testing.assert_allclose(features, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", EMPTY_BANDS)
@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda settings: settings.kind)
def test_standalone_features_of_empty_bands_are_exact(settings: FeatureSettings, name: str) -> None:
    """The kernel's float32 rounds there: by up to 0.1, far below what anybody hears."""
    wave = EMPTY_BANDS[name]
    expected = by_torchaudio(wave.astype(float), settings)
    np.testing.assert_allclose(by_standalone(wave, settings), expected, rtol=0, atol=5e-4)
    differences = np.abs(extract(wave, settings) - expected)
    assert differences.max() < 0.2


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda settings: settings.kind)
def test_standalone_features_of_real_speech_are_ours(
    shared: Path, settings: FeatureSettings
) -> None:
    wave = unit(np.load(shared / "golden/waves.npz")["wav0"])
    differences = np.abs(by_standalone(wave, settings) - extract(wave, settings))
    assert differences.max() < (1e-2 if settings.kind == "linear" else 1e-3)
    assert differences.mean() < 1e-5


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda settings: settings.kind)
def test_real_speech_has_the_features_of_torchaudio(
    shared: Path, settings: FeatureSettings
) -> None:
    waves = np.load(shared / "golden/waves.npz")
    for name in ("wav0", "wav1"):
        wave = unit(waves[name])
        # In float64, for transforms in float32 differ by processor.
        expected = by_torchaudio(wave.astype(np.float64), settings)
        differences = np.abs(extract(wave, settings) - expected)
        assert differences.max() < (2e-2 if settings.kind == "linear" else 5e-3)
        assert differences.mean() < (1e-4 if settings.kind == "mfcc" else 1e-5)


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda settings: settings.kind)
def test_digital_silence_has_finite_features(settings: FeatureSettings) -> None:
    for level in (0.0, 0.25, -1.0):
        features = extract(np.full(4_000, level, np.float32), settings)
        assert np.isfinite(features).all()
    floor = {"logmel": np.log(1e-10), "linear": np.log(1e-10), "fbank": -23 * np.log(2)}
    if settings.kind in floor:
        silent = extract(np.zeros(4_000, np.float32), settings)
        np.testing.assert_allclose(silent, floor[settings.kind], rtol=1e-6)


def test_a_constant_offset_leaves_only_the_floor_in_kaldi_features() -> None:
    features = extract(np.full(4_000, 0.25, np.float32), FbankSettings(amplitude="int16"))
    np.testing.assert_allclose(features, -23 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("frames", [15, 16, 17, 700])
@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda settings: settings.kind)
def test_a_frame_does_not_depend_on_those_computed_beside_it(
    settings: FeatureSettings, frames: int
) -> None:
    wave = noise(400 + 160 * (frames - 1))
    whole = extract(wave, settings)
    later = extract(wave[160 * 7 :], settings)
    inner = slice(2, -2)  # past the reflected edges
    np.testing.assert_array_equal(later[inner], whole[7:][inner])


FEATURES_TO_STDOUT = """
import sys
import numpy as np
from aalbert.pipeline.audio.features import extract
from aalbert.shards.format.feature_settings import FbankSettings, LogMelSettings, MfccSettings
wave = np.random.default_rng(0).normal(0, 0.1, 100_000).astype(np.float32)
for settings in (LogMelSettings(), LogMelSettings(fft_size=2046), FbankSettings(), MfccSettings()):
    sys.stdout.buffer.write(extract(wave, settings).tobytes())
"""


def run_python(code: str, **variables: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
    ).stdout


def test_features_do_not_depend_on_the_number_of_threads_of_blas() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    one, four = (run_python(FEATURES_TO_STDOUT, **dict.fromkeys(names, n)) for n in ("1", "4"))
    assert len(one) > 10_000
    assert one == four


def test_threads_do_not_share_buffers() -> None:
    waves = [speech_like(3.0, 16_000, seed) for seed in range(8)]
    expected = [extract(wave, LogMelSettings()) for wave in waves]
    with ThreadPoolExecutor(4) as executor:
        for _ in range(3):
            found = list(executor.map(lambda wave: extract(wave, LogMelSettings()), waves))
            for left, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(left, right)


def test_workers_of_prepare_start_without_heavy_packages() -> None:
    code = (
        "import sys, aalbert.pipeline.prepare.engine, aalbert.pipeline.prepare.shard_task\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = run_python(code).decode().split()
    assert "soundfile" in loaded
    heavy = {"torch", "torchaudio", "pytorch_lightning", "matplotlib", "pydantic", "yaml"}
    assert not heavy & set(loaded)
