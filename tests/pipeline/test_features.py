from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.pipeline.features import extract, minimum_samples
from aalbert.shards.settings import FbankSettings, FeatureSettings, LogMelSettings

GOLDEN: dict[str, FeatureSettings] = {
    "logmel80_nfft400": LogMelSettings(),
    "kaldi_fbank80_float": FbankSettings(),
    "kaldi_fbank80_int16scale": FbankSettings(amplitude="int16"),
}
TOLERANCE = 2e-3


def unit(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32_768)


def noise(samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize("name", GOLDEN)
def test_features_are_those_of_the_reference_systems(name: str) -> None:
    golden = np.load(Path(__file__).with_name("golden_features.npz"))
    np.testing.assert_allclose(
        extract(unit(golden["wave"]), GOLDEN[name]), golden[name], rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("wave", ["wav0", "wav1"])
@pytest.mark.parametrize("name", GOLDEN)
def test_features_are_those_in_the_shared_golden_files(shared: Path, name: str, wave: str) -> None:
    samples = np.load(shared / "golden/waves.npz")[wave]
    golden = np.load(shared / "golden/features.npz")[f"{name}_{wave}"]
    np.testing.assert_allclose(extract(unit(samples), GOLDEN[name]), golden, rtol=0, atol=TOLERANCE)


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
    assert minimum_samples(settings) == 400
    assert len(extract(noise(400), settings)) >= 1


def test_settings_change_the_features() -> None:
    wave = noise(8_000)
    settings = LogMelSettings(mels=40, frame_shift_ms=20.0, window_length_ms=20.0)
    assert minimum_samples(settings) == 320
    assert extract(wave, settings).shape == (1 + 8_000 // 320, 40)


def test_fbank_at_int16_scale_is_louder_by_that_scale() -> None:
    wave = noise(8_000)
    louder = extract(wave, FbankSettings(amplitude="int16")) - extract(wave, FbankSettings())
    np.testing.assert_allclose(louder, 2 * np.log(32_768), atol=1e-2)


def test_features_do_not_depend_on_what_was_computed_before() -> None:
    first = extract(noise(5_000), LogMelSettings())
    extract(noise(999), LogMelSettings(mels=40))
    np.testing.assert_array_equal(extract(noise(5_000), LogMelSettings()), first)
