from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.features import extract
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings

RATE = 16_000
SILENCE = SilenceSettings()


def sound(seconds: float, level: float = 0.3) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 400 * time)).astype(np.float32)


def hush(seconds: float) -> NDArray[np.float32]:
    return sound(seconds, level=1e-3)


def cut(*parts: NDArray[np.float32], silence: SilenceSettings = SILENCE) -> NDArray[np.float32]:
    return condition(np.concatenate(parts), RATE, WaveSettings(silence=silence))


def test_by_default_nothing_is_done() -> None:
    wave = sound(0.5)
    assert condition(wave, RATE, WaveSettings()) is wave


def test_a_loudness_gives_the_features_that_s3prl_computes() -> None:
    golden = np.load(Path(__file__).with_name("golden_features.npz"))
    wave = golden["wave"].astype(np.float32) / 32_768
    features = extract(condition(wave, RATE, WaveSettings(loudness_db=-25.0)), LogMelSettings())
    normalised = (features - features.mean(axis=0)) / (features.std(axis=0, ddof=1) + 1e-10)
    np.testing.assert_allclose(normalised, golden["logmel80_nfft400_db25_cmvn"], atol=2e-3)


@pytest.mark.parametrize("loudness_db", [-40.0, -25.0, 0.0])
def test_a_loudness_is_the_rms_of_the_result(loudness_db: float) -> None:
    wave = condition(sound(0.5), RATE, WaveSettings(loudness_db=loudness_db))
    assert 20 * np.log10(np.sqrt(np.mean(wave**2))) == pytest.approx(loudness_db, abs=1e-3)


@pytest.mark.parametrize("wave", [np.zeros(800, np.float32)])
def test_silence_is_left_as_it_is(wave: NDArray[np.float32]) -> None:
    settings = WaveSettings(silence=SILENCE, gain_db=6.0, loudness_db=-25.0)
    np.testing.assert_array_equal(condition(wave, RATE, settings), wave)


def test_a_gain_multiplies_and_does_not_clip() -> None:
    wave = sound(0.1, level=0.5)
    louder = condition(wave, RATE, WaveSettings(gain_db=20.0))
    np.testing.assert_allclose(louder, 10 * wave, rtol=1e-6)
    assert louder.max() > 1


def test_the_wave_given_is_not_changed() -> None:
    wave = np.concatenate((hush(1), sound(1)))
    before = wave.copy()
    condition(wave, RATE, WaveSettings(silence=SILENCE, gain_db=3.0, loudness_db=-20.0))
    np.testing.assert_array_equal(wave, before)


def test_silence_at_both_ends_is_cut_to_the_edge() -> None:
    wave = cut(hush(1), sound(1), hush(2))
    np.testing.assert_array_equal(wave, np.concatenate((hush(1)[-1600:], sound(1), hush(2)[:1600])))


def test_short_silence_at_the_ends_stays() -> None:
    parts = (hush(0.08), sound(1), hush(0.1))
    np.testing.assert_array_equal(cut(*parts), np.concatenate(parts))


def test_long_inner_silence_keeps_half_of_what_stays_at_each_side() -> None:
    wave = cut(sound(1), hush(2), sound(1))
    expected = np.concatenate((sound(1), hush(2)[:2400], hush(2)[-2400:], sound(1)))
    np.testing.assert_array_equal(wave, expected)


def test_inner_silence_up_to_the_limit_stays() -> None:
    parts = (sound(1), hush(0.3), sound(1), hush(0.2), sound(0.4))
    np.testing.assert_array_equal(cut(*parts), np.concatenate(parts))


@pytest.mark.parametrize("level_db", [-39.0, -41.0])
def test_a_window_is_silent_from_the_threshold_on(level_db: float) -> None:
    wave = cut(sound(1), sound(1, level=0.3 * 10 ** (level_db / 20)))
    assert len(wave) == (2 * RATE if level_db > -40 else RATE + 1600)


def test_a_last_window_that_is_shorter_is_judged_by_its_own_samples() -> None:
    parts = (sound(1), hush(1), sound(0.005))
    assert len(cut(*parts)) == RATE + 4800 + 80


def test_what_is_kept_is_what_a_loop_over_windows_keeps() -> None:
    rng = np.random.default_rng(4)
    levels = rng.choice([1.0, 1e-3], 60, p=[0.3, 0.7])
    wave = (np.repeat(levels, 320) * rng.normal(0, 0.1, 60 * 320)).astype(np.float32)[:-37]
    settings = SilenceSettings(edge_ms=30.0, inner_ms=70.0)
    silent = [np.sqrt(np.mean(wave[at : at + 320] ** 2)) < 1e-3 for at in range(0, len(wave), 320)]
    keep = np.ones(len(wave), bool)
    start = 0
    while start < len(silent):
        stop = start
        while stop < len(silent) and silent[stop]:
            stop += 1
        first, last = start * 320, min(stop * 320, len(wave))
        if first == 0:
            keep[: max(0, last - 480)] = False
        elif last == len(wave):
            keep[first + 480 : last] = False
        elif last - first > 1120:
            keep[first + 560 : last - 560] = False
        start = stop + 1
    found = condition(wave, RATE, WaveSettings(silence=settings))
    assert 0 < len(found) < len(wave)
    np.testing.assert_array_equal(found, wave[keep])
