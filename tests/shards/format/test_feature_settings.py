import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torchaudio
from torchaudio.compliance import kaldi

from aalbert.errors import ConfigError
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
    default_settings,
    fingerprint,
    settings_from_dict,
)
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings

SETTINGS: list[FeatureSettings] = [
    LogMelSettings(),
    LogMelSettings(mels=40, log_offset=1e-6),
    FbankSettings(),
    FbankSettings(amplitude="int16"),
    MfccSettings(cepstra=20),
    LinearSettings(fft_size=2046),
    LogMelSettings(wave=WaveSettings(loudness_db=-25.0, gain_db=-3.0)),
    LogMelSettings(wave=WaveSettings(silence=SilenceSettings(inner_ms=500.0))),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_survive_json(settings: FeatureSettings) -> None:
    assert settings_from_dict(json.loads(json.dumps(asdict(settings)))) == settings


def test_an_unknown_feature_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        default_settings("mel")
    assert str(caught.value) == ("unknown feature 'mel': use one of logmel, fbank, mfcc, linear")


def test_settings_of_a_later_version_are_refused_by_name() -> None:
    document = {**asdict(FbankSettings()), "warp": 1.1, "energy": True}
    with pytest.raises(ConfigError) as caught:
        settings_from_dict(document)
    assert str(caught.value) == (
        "feature 'fbank' has settings this version does not know: energy, warp; "
        "prepare the data again or upgrade aalbert"
    )


def test_settings_without_a_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown feature 'None'"):
        settings_from_dict({"mels": 80})


def test_every_setting_changes_the_fingerprint() -> None:
    roomy = LogMelSettings(mels=20, fft_size=2048)
    numbers: dict[str, Any] = {
        name: value * 2 for name, value in asdict(roomy).items() if isinstance(value, int | float)
    }
    changed = [replace(roomy, **{name: value}) for name, value in numbers.items()]
    prints = {fingerprint(settings) for settings in [*SETTINGS, *changed]}
    assert len(prints) == len(SETTINGS) + len(changed)


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": "ä"}) == fingerprint({"b": "ä", "a": 1})


def test_numbers_that_are_read_back_keep_their_spelling_and_so_the_fingerprint() -> None:
    for loudness_db in (-25, -25.0):
        settings = LogMelSettings(wave=WaveSettings(loudness_db=loudness_db))
        read = settings_from_dict(json.loads(json.dumps(asdict(settings))))
        assert read == settings and fingerprint(read) == fingerprint(settings)


def test_the_fingerprint_of_the_defaults_is_the_one_that_old_datasets_hold() -> None:
    assert fingerprint(LogMelSettings()) == "42608a0c878d50f1"
    assert fingerprint(FbankSettings()) == "e10c89a72ec4967f"


def test_wave_settings_of_a_later_version_are_refused_by_name() -> None:
    document = {**asdict(FbankSettings()), "wave": {"reverb": 1, "silence": None}}
    with pytest.raises(ConfigError, match="settings this version does not know: wave.reverb;"):
        settings_from_dict(document)


REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (
        LogMelSettings,
        {"fft_size": 398},
        "logmel: fft_size is 398, shorter than the window of 400 samples (25 ms at 16000 Hz): "
        "use at least 400",
    ),
    (LinearSettings, {"fft_size": 401}, "linear: fft_size is 401: it must be even"),
    (
        LogMelSettings,
        {"mels": 128},
        "logmel: 4 of 128 mel filters fall between the FFT's bins, which lie 40 Hz apart, and "
        "would be empty: use fewer mels or a longer FFT (fft_size)",
    ),
    (
        FbankSettings,
        {"mels": 128},
        "fbank: 1 of 128 mel filters fall between the FFT's bins, which lie 31.25 Hz apart, "
        "and would be empty: use fewer mels or a longer window",
    ),
    (
        FbankSettings,
        {"mels": 2},
        "fbank: mels is 2: it must be at least 3, and at most half of the FFT's 512 samples",
    ),
    (
        LogMelSettings,
        {"mels": 10**9},
        "logmel: mels is 1000000000: it must be at least 3, and at most half of the FFT's 400 "
        "samples",
    ),
    (
        LogMelSettings,
        {"fft_size": 2**40},
        "logmel: fft_size is 1099511627776: it must be at most 65536",
    ),
    (
        FbankSettings,
        {"window_length_ms": 1e9},
        "fbank: window_length_ms is 1000000000.0: it must be at most 4096, 65,536 samples at "
        "16000 Hz",
    ),
    (LogMelSettings, {"log_offset": 0.0}, "logmel: log_offset is 0.0: it must be above 0"),
    (
        LogMelSettings,
        {"frame_shift_ms": 0.0},
        "logmel: frame_shift_ms is 0.0: it must be at least 0.0625, 1 samples at 16000 Hz",
    ),
    (
        MfccSettings,
        {"window_length_ms": -25.0},
        "mfcc: window_length_ms is -25.0: it must be at least 0.125, 2 samples at 16000 Hz",
    ),
    (
        FbankSettings,
        {"sample_rate": 0},
        "fbank: sample_rate is 0: it must be 1000 to 768000 Hz",
    ),
    (MfccSettings, {"cepstra": 24}, "mfcc: cepstra is 24: it must be 1 to mels, 23"),
    (MfccSettings, {"lifter": -1.0}, "mfcc: lifter is -1.0: it must not be negative"),
    (WaveSettings, {"gain_db": 200.0}, "wave.gain_db is 200.0: it must be -100 to 100"),
    (WaveSettings, {"loudness_db": 3.0}, "wave.loudness_db is 3.0: it must be -100 to 0"),
    (SilenceSettings, {"window_ms": 0.0}, "silence.window_ms is 0.0: it must be above 0"),
    (SilenceSettings, {"inner_ms": -1.0}, "silence.inner_ms is -1.0: it must not be negative"),
]


@pytest.mark.parametrize(("settings", "values", "text"), REFUSED)
def test_settings_without_meaning_are_refused(
    settings: type[Any], values: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**values)
    assert str(caught.value) == text


@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
@pytest.mark.parametrize("kind", ["logmel", "fbank"])
@pytest.mark.parametrize("mels", [20, 40, 60, 80, 90, 100, 110, 120, 128])
def test_a_filter_is_refused_exactly_when_torchaudio_finds_it_empty(kind: str, mels: int) -> None:
    if kind == "logmel":
        filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, mels, 16_000).T
        values: dict[str, Any] = {"mels": mels, "fft_size": 512}
    else:
        filters = kaldi.get_mel_banks(mels, 512, 16_000, 20.0, 0.0, 100.0, -500.0, 1.0)[0]
        values = {"mels": mels}
    empty = bool((filters.amax(dim=1) == 0).any())
    try:
        type(default_settings(kind))(**values)
    except ConfigError:
        assert empty
    else:
        assert not empty


@pytest.mark.parametrize(
    ("rate", "milliseconds", "samples"),
    [(16_000, 25.0, 400), (11_025, 25.0, 275), (22_050, 10.0, 220), (44_100, 0.7, 30)],
)
def test_times_are_rounded_down_to_samples(rate: int, milliseconds: float, samples: int) -> None:
    settings = LinearSettings(sample_rate=rate, window_length_ms=milliseconds, fft_size=1024)
    assert settings.window_samples == samples
