"""The settings of `prepare` from the command line and files.

Apart from `config`, which worker processes read: pydantic and YAML would take each of them most
of a second to import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aalbert.common.configuration import load_config
from aalbert.common.settings_text import Document
from aalbert.errors import require
from aalbert.pipeline.prepare.config import SHARD_BYTES, PrepareConfig
from aalbert.shards.format.feature_groups import with_feature_groups
from aalbert.shards.format.feature_settings import (
    SETTINGS_BY_KIND,
    FeatureSettings,
    default_settings,
)
from aalbert.shards.format.wave_settings import WaveSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the bytes of a dataset beside its corpus.

    `features` names what is stored; the groups of that name, which `with_feature_groups` adds,
    say how it is computed, and `wave` what is done to every wave before.
    """

    features: tuple[str, ...] = ("logmel",)
    wave: WaveSettings = WaveSettings()
    shard_bytes: int = SHARD_BYTES
    strict_audio: bool = False

    def __post_init__(self) -> None:
        require(bool(self.features), "features is empty: name at least one, such as logmel")
        require(self.shard_bytes > 0, f"shard_bytes {self.shard_bytes} must be above 0")
        for kind in SETTINGS_BY_KIND:
            own: WaveSettings = getattr(self, kind).wave
            require(
                own == WaveSettings(),
                f"{kind}.wave cannot be set alone: the wave is the same for all features, set wave",
            )

    def config(self) -> PrepareConfig:
        """Return the configuration of a `prepare`."""
        kinds = tuple(dict.fromkeys(self.features))
        return PrepareConfig(
            features=tuple(replace(self.settings(kind), wave=self.wave) for kind in kinds),
            shard_bytes=self.shard_bytes,
            strict_audio=self.strict_audio,
        )

    def settings(self, kind: str) -> FeatureSettings:
        """Return the settings of a feature; `ConfigError` when there is no such feature."""
        default_settings(kind)
        settings: FeatureSettings = getattr(self, kind)
        return settings


def load_recipe(
    file: Path | None = None,
    assignments: Sequence[str] = (),
    *,
    work: tuple[str, Document] | None = None,
    features: Sequence[str] | None = None,
    strict_audio: bool | None = None,
) -> PrepareConfig:
    """Read a recipe from a file, assignments such as `logmel.mels=40`, and flags if given.

    `work` are settings of a piece of work, with their place, under those of the file.

    Raises `ConfigError` that names the setting when one is unknown or has no valid value.
    """
    groups = with_feature_groups(Recipe)
    recipe = load_config(groups, work=work, file=file, environment={}, assignments=assignments)
    if features:
        recipe = replace(recipe, features=tuple(features))
    check_used(assignments, recipe.features)
    if strict_audio is not None:
        recipe = replace(recipe, strict_audio=strict_audio)
    return recipe.config()


def check_used(assignments: Sequence[str], features: Sequence[str]) -> None:
    """Raise `ConfigError` for an assignment to a feature that is not stored.

    A file may hold the settings of features that this run leaves out.
    """
    for assignment in assignments:
        kind = assignment.partition("=")[0].partition(".")[0].strip()
        require(
            kind not in SETTINGS_BY_KIND or kind in features,
            f"--set {assignment} would change nothing: {kind} is not stored, only "
            f"{', '.join(features)}; add --feature {kind}",
        )
