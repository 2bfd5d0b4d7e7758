import json
from dataclasses import asdict, replace

import pytest

from aalbert.errors import ConfigError
from aalbert.shards.settings import (
    FbankSettings,
    FeatureSettings,
    LogMelSettings,
    default_settings,
    fingerprint,
    settings_from_dict,
)

SETTINGS: list[FeatureSettings] = [
    LogMelSettings(),
    LogMelSettings(mels=40, log_offset=1e-6),
    FbankSettings(),
    FbankSettings(amplitude="int16"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_survive_json(settings: FeatureSettings) -> None:
    assert settings_from_dict(json.loads(json.dumps(asdict(settings)))) == settings


def test_an_unknown_feature_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        default_settings("mfcc")
    assert str(caught.value) == "unknown feature 'mfcc': use one of logmel, fbank"


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
    changed = [
        replace(LogMelSettings(), **{name: value * 2})
        for name, value in asdict(LogMelSettings()).items()
        if name != "kind"
    ]
    prints = {fingerprint(settings) for settings in [*SETTINGS, *changed]}
    assert len(prints) == len(SETTINGS) + len(changed)


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": "ä"}) == fingerprint({"b": "ä", "a": 1})


def test_the_fingerprint_of_the_defaults_is_the_one_that_old_datasets_hold() -> None:
    assert fingerprint(LogMelSettings()) == "e9885d347fb9b4bd"
    assert fingerprint(FbankSettings()) == "840af6a53b2b315f"
