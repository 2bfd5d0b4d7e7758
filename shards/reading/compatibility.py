"""Whether features go together: with those that a model was made for, and with one another."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from aalbert.common.text import flat
from aalbert.errors import ConfigError, require
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


def require_same_shift(settings: Sequence[FeatureSettings]) -> None:
    """Raise `ConfigError` unless the frames of all features are equally far apart."""
    first = settings[0]
    for other in settings[1:]:
        require(
            (other.sample_rate, other.shift_samples) == (first.sample_rate, first.shift_samples),
            f"{other.kind} has a frame each {other.frame_shift_ms:g} ms, {first.kind} each "
            f"{first.frame_shift_ms:g} ms: a batch needs equal ones; prepare both with the same "
            "frame_shift_ms",
        )


def leading_frames(settings: Sequence[FeatureSettings]) -> list[int]:
    """Return how many frames at the beginning of each feature have no partner in the others.

    Frames are partners when their centres lie within half a shift. Those of Kaldi's features lie
    half a window later: beside them `logmel` loses its first frame (25 ms windows, 10 ms apart).
    """
    centres = [some.first_centre for some in settings]
    shift = settings[0].shift_samples
    return [(max(centres) - centre + shift // 2) // shift for centre in centres]


def spare_frames(settings: Sequence[FeatureSettings]) -> int:
    """Return by how many frames features of one recording may differ: those that fill a window.

    Kaldi takes whole frames only, the others also those that begin before the recording's end.
    """
    longest = max(some.window_samples for some in settings)
    return math.ceil(longest / settings[0].shift_samples)
