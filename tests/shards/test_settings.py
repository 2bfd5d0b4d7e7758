import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from aalbert.errors import ConfigError
from aalbert.shards.settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
    SilenceSettings,
    WaveSettings,
    default_settings,
    fingerprint,
    settings_from_dict,
)

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


def test_the_fingerprint_of_the_defaults_is_the_one_that_old_datasets_hold() -> None:
    assert fingerprint(LogMelSettings()) == "42608a0c878d50f1"
    assert fingerprint(FbankSettings()) == "e10c89a72ec4967f"


def test_wave_settings_of_a_later_version_are_refused_by_name() -> None:
    document = {**asdict(FbankSettings()), "wave": {"reverb": 1, "silence": None}}
    with pytest.raises(ConfigError, match="settings this version does not know: wave.reverb;"):
        settings_from_dict(document)
