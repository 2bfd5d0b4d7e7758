"""A checkpoint of another system as a model of this package."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aalbert.common.configuration import load_config
from aalbert.common.files import file_digest
from aalbert.conversion.published_names import published_speech
from aalbert.errors import ConfigError, IntegrityError, require
from aalbert.models.foreign.detect import read_foreign
from aalbert.models.foreign.foreign_model import ForeignModel
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.format.feature_groups import with_feature_groups
from aalbert.shards.format.feature_settings import (
    SETTINGS_BY_KIND,
    FeatureSettings,
    default_settings,
)
from aalbert.shards.format.wave_settings import WaveSettings


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How an imported model reads audio: what its checkpoint tells, and `--set` changes.

    `feature` names the features; the group of that name, which `with_feature_groups` adds, says
    how they are computed from a wave that `wave` describes. `front_end.feature_dims` follows
    from them.
    """

    feature: str = ""
    wave: WaveSettings = WaveSettings()
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    def settings(self) -> FeatureSettings:
        """Return the settings of the features."""
        default_settings(self.feature)
        settings: FeatureSettings = replace(getattr(self, self.feature), wave=self.wave)
        return settings


def load_foreign(source: Path) -> PretrainedModel:
    """Return the model of a checkpoint of another system, as `import_model` does."""
    return import_model(source)[0]


def import_model(
    source: Path, assignments: Sequence[str] = (), origin: str = ""
) -> tuple[PretrainedModel, ForeignModel]:
    """Read a checkpoint of another system, and return it as a model beside what it told.

    `assignments` are settings such as `front_end.deltas=1` that win over the checkpoint's, and
    `origin` is the place on the hub that the file is a copy from.
    Raises `InputError` for a file of no known layout, `IntegrityError` for one that is damaged
    or would run code, `ConfigError` when settings are missing or do not fit the model.
    """
    foreign = read_foreign(source)
    reading = read_settings(foreign, source, assignments)
    settings = reading.settings()
    front_end = replace(reading.front_end, feature_dims=settings.dims)
    training = {
        "converted_from": f"{origin or source.name} ({foreign.layout})",
        "converted_file_xxh3": file_digest(source),
        "speech_hours": published_speech(origin),
        **foreign.training,
    }
    foreign = replace(foreign, training=training)
    try:
        return foreign.build(asdict(settings), front_end), foreign
    except IntegrityError as error:
        raise IntegrityError(f"{source}: {error}") from error


def read_settings(foreign: ForeignModel, source: Path, assignments: Sequence[str]) -> ReadingConfig:
    """Return how the model reads audio, with the user's settings over the checkpoint's.

    Raises `IntegrityError` when those of the checkpoint alone are invalid.
    """
    document: dict[str, Any] = {"front_end": dict(foreign.front_end)}
    if foreign.features is not None:
        features = dict(foreign.features)
        document["wave"] = features.pop("wave", {})
        document["feature"] = features.pop("kind")
        document[document["feature"]] = features
    try:
        reading = load_config(
            with_feature_groups(ReadingConfig),
            preset=(str(source), document),
            environment={},
            assignments=assignments,
        )
    except ConfigError as error:
        if assignments:
            raise
        raise IntegrityError(f"{source}: its settings are invalid: {error}") from error
    first, *others = SETTINGS_BY_KIND
    require(
        bool(reading.feature),
        f"{source}: {' '.join(foreign.notes)}. Say which to 'aalbert convert': --set "
        f"feature={first} (or {', '.join(others)}), and what differs from the defaults, such as "
        "--set front_end.deltas=1",
    )
    return reading
