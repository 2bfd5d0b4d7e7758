"""What tells two definitions of a feature apart, line by line."""

from collections.abc import Sequence
from dataclasses import asdict

from aalbert.common.text import flat
from aalbert.errors import ConfigError
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.reading.dataset import Selection


def require_equal_settings(
    expected: FeatureSettings, found: FeatureSettings, *, who: str, where: str, way_out: str
) -> None:
    """Raise `ConfigError` with a detail for each setting that `who` expects and `where` has not."""
    lines = settings_differences(expected, found)
    if lines:
        raise ConfigError(
            f"{who} expects another {expected.kind} than {where} has: {way_out}", details=lines
        )


def require_same_feature(selections: Sequence[Selection], feature: str) -> None:
    """Raise `ConfigError` unless all datasets store a feature, computed in the same way."""
    first = selections[0].dataset
    first.require_feature(feature)
    for selection in selections[1:]:
        other = selection.dataset
        other.require_feature(feature)
        require_equal_settings(
            first.manifest.features[feature],
            other.manifest.features[feature],
            who=first.place,
            where=other.place,
            way_out="prepare both with the same settings",
        )


def settings_differences(expected: FeatureSettings, found: FeatureSettings) -> list[str]:
    """Return a line for each setting that differs: its name, and both values."""
    wanted, present = dict(flat(asdict(expected))), dict(flat(asdict(found)))
    return [
        f"{name}: expected {wanted.get(name, 'none')}, found {present.get(name, 'none')}"
        for name in {**wanted, **present}
        if wanted.get(name) != present.get(name)
    ]
