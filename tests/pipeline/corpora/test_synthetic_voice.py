from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.pipeline.corpora.synthetic_voice import (
    PHONES,
    VOWEL_NAMES,
    Voice,
    draw_voice,
    speak,
)

SAMPLE_RATE = 16_000

MAN = Voice(
    gender="M",
    pitch_hz=120.0,
    pitch_range_semitones=3.0,
    vocal_tract_scale=1.0,
    open_quotient=0.6,
    breathiness=0.05,
    tilt_db_per_octave=1.0,
    jitter=0.005,
    shimmer=0.03,
    syllables_per_second=4.0,
)


def samples_of(
    voice: Voice, seconds: float, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE
) -> NDArray[np.float32]:
    return speak(voice, seconds, rng, sample_rate).samples


def frames(samples: NDArray[np.float32], length: int = 800) -> NDArray[np.float32]:
    return samples[: len(samples) // length * length].reshape(-1, length)


def autocorrelation_pitch_hz(samples: NDArray[np.float32]) -> float:
    """Median over the clearly periodic frames of the first strong autocorrelation peak."""
    spectra = np.fft.rfft(frames(samples), 2048, axis=1)
    correlation = np.fft.irfft(np.abs(spectra) ** 2, axis=1)[:, :400]
    correlation /= correlation[:, :1]
    lags = range(SAMPLE_RATE // 350, SAMPLE_RATE // 60)
    best = np.argmax(correlation[:, lags], axis=1) + lags[0]
    periodic = correlation[np.arange(len(best)), best] > 0.5
    assert periodic.sum() > 10
    return float(np.median(SAMPLE_RATE / best[periodic]))


def spectral_centroid_hz(samples: NDArray[np.float32]) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    band = frequency_hz < 4000
    return float(np.sum(frequency_hz[band] * power[band]) / np.sum(power[band]))


@pytest.mark.parametrize("pitch_hz", [100.0, 140.0, 200.0, 250.0])
def test_pitch_is_the_voices(pitch_hz: float) -> None:
    samples = samples_of(replace(MAN, pitch_hz=pitch_hz), 6.0, np.random.default_rng(3))
    assert autocorrelation_pitch_hz(samples) == pytest.approx(pitch_hz, rel=0.05)


def test_a_longer_vocal_tract_lowers_the_spectrum() -> None:
    centroids = [
        spectral_centroid_hz(samples_of(replace(MAN, vocal_tract_scale=scale), 6.0, rng))
        for scale, rng in ((scale, np.random.default_rng(4)) for scale in (0.8, 0.9, 1.0, 1.1))
    ]
    assert centroids == sorted(centroids, reverse=True)


def test_tilt_darkens_and_breath_fills_the_upper_spectrum() -> None:
    def upper_part(voice: Voice) -> float:
        power = np.abs(np.fft.rfft(samples_of(voice, 4.0, np.random.default_rng(5)))) ** 2
        frequency_hz = np.fft.rfftfreq(4 * SAMPLE_RATE, 1 / SAMPLE_RATE)
        return float(power[(frequency_hz > 2000) & (frequency_hz < 3500)].sum() / power.sum())

    assert upper_part(replace(MAN, tilt_db_per_octave=9.0)) < upper_part(MAN)
    assert upper_part(replace(MAN, breathiness=0.6)) > upper_part(MAN)


def test_syllables_come_at_the_rate_of_the_voice() -> None:
    def onsets_per_second(voice: Voice) -> float:
        samples = samples_of(voice, 20.0, np.random.default_rng(6))
        level = np.log(np.square(frames(samples, 320)).mean(axis=1))
        loud = level > np.median(level)
        return float(np.sum(loud[1:] & ~loud[:-1]) / 20)

    slow, fast = (replace(MAN, syllables_per_second=rate) for rate in (2.5, 5.0))
    assert onsets_per_second(slow) == pytest.approx(2.5, rel=0.2)
    assert onsets_per_second(fast) > 1.3 * onsets_per_second(slow)


def test_speech_has_pauses_voiced_and_hissing_stretches() -> None:
    samples = samples_of(MAN, 10.0, np.random.default_rng(7))
    level_db = 10 * np.log10(np.square(frames(samples, 320)).mean(axis=1))
    signs = np.signbit(frames(samples, 320))
    crossings = np.mean(signs[:, 1:] != signs[:, :-1], axis=1)
    loud = level_db > level_db.max() - 40
    assert 0.05 < np.mean(~loud) < 0.6
    assert np.mean(crossings[loud] < 0.15) > 0.4
    assert np.mean(crossings[loud] > 0.3) > 0.03


def test_samples_are_bounded_mono_and_of_the_requested_length() -> None:
    for seed, seconds in enumerate((0.05, 0.333, 1.0, 7.77)):
        rng = np.random.default_rng(seed)
        samples = samples_of(draw_voice(rng), seconds, rng)
        assert samples.shape == (round(seconds * SAMPLE_RATE),)
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert samples.min() >= -1 and samples.max() < 1


def test_the_same_seed_says_the_same_and_another_seed_something_else() -> None:
    first, again, other = (samples_of(MAN, 2.0, np.random.default_rng(seed)) for seed in (8, 8, 9))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_other_sample_rates_keep_the_pitch_and_the_words() -> None:
    low, high = (samples_of(MAN, 4.0, np.random.default_rng(10), rate) for rate in (16_000, 32_000))
    assert len(high) == 2 * len(low)
    assert autocorrelation_pitch_hz(high[::2]) == pytest.approx(
        autocorrelation_pitch_hz(low), rel=0.03
    )


def test_women_have_the_higher_voices_and_the_shorter_tracts() -> None:
    voices = [draw_voice(np.random.default_rng(seed)) for seed in range(200)]
    women = [voice for voice in voices if voice.gender == "F"]
    men = [voice for voice in voices if voice.gender == "M"]
    assert len(women) + len(men) == 200 and min(len(women), len(men)) > 60
    assert np.mean([v.pitch_hz for v in women]) > 1.5 * np.mean([v.pitch_hz for v in men])
    assert np.mean([v.vocal_tract_scale for v in women]) < np.mean(
        [v.vocal_tract_scale for v in men]
    )


def test_every_10_ms_has_the_phone_that_is_heard() -> None:
    speech = speak(MAN, 60.05, np.random.default_rng(11))
    assert len(speech.phones) == 6005
    windows = frames(speech.samples, 160)
    level_db = 10 * np.log10(np.square(windows).mean(axis=1))
    power = np.abs(np.fft.rfft(windows * np.hanning(160), axis=1)) ** 2
    centroid_hz = power @ np.fft.rfftfreq(160, 1 / SAMPLE_RATE) / power.sum(axis=1)

    def median(values: NDArray[np.floating], phone: str) -> float:
        return float(np.median(values[speech.phones == PHONES.index(phone)]))

    assert {PHONES[number] for number in speech.phones} == set(PHONES)
    assert all(median(level_db, vowel) > median(level_db, "SIL") + 30 for vowel in VOWEL_NAMES)
    assert median(centroid_hz, "S") > median(centroid_hz, "SH") > 2000
    assert all(median(centroid_hz, vowel) < 2000 for vowel in VOWEL_NAMES)
    # The second formant of IY is at 2290 Hz; those of AO and UW are below 900 Hz.
    frequency_hz = np.fft.rfftfreq(160, 1 / SAMPLE_RATE)
    upper = power[:, (frequency_hz > 1900) & (frequency_hz < 2700)].sum(axis=1) / power.sum(axis=1)
    assert median(upper, "IY") > 3 * median(upper, "AO")
    assert median(upper, "IY") > 3 * median(upper, "UW")
