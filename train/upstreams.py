"""The model that a run begins with: its place, and whether data has the features that it reads."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from aalbert.common.hub import find_hub_place
from aalbert.common.json_files import read_record
from aalbert.common.redaction import redact_url
from aalbert.common.store import is_url
from aalbert.conversion.checkpoint_file import is_foreign
from aalbert.conversion.published_names import find_published
from aalbert.errors import InputError
from aalbert.models.checkpoint import (
    CONFIG_NAME,
    MODEL_TYPE,
    WAY_OUT,
    find_checkpoint,
    lasting_name,
    reading_config,
)
from aalbert.models.encoder_names import TRANSFORMERS, is_wave_encoder
from aalbert.models.training_states import find_state
from aalbert.models.upstream import UpstreamConfig
from aalbert.models.wave_encoders.open import lasting_encoder_name
from aalbert.shards.format.feature_groups import prepare_options
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND, settings_from_dict
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset


def lasting_upstream(upstream: str) -> str:
    """Return the place of an upstream, valid from any working directory, or the feature it is.

    A model on the hub is named with its commit, also one that s3prl has a name of.
    """
    if upstream in SETTINGS_BY_KIND:
        return upstream
    if is_wave_encoder(upstream):
        return lasting_encoder_name(upstream)
    upstream = find_published(upstream)
    if is_url(upstream) or find_hub_place(upstream) is not None:
        return str(lasting_name(upstream))
    if is_foreign(upstream) or find_state(upstream) is not None:
        return str(Path(upstream).resolve())
    require_known(upstream)
    folder = find_checkpoint(upstream)
    if is_of_transformers(folder):
        raise InputError(
            f"{upstream} is a model that transformers saved: name it {TRANSFORMERS}{upstream}"
        )
    return str(folder.resolve())


def require_known(name: str) -> None:
    """Raise `InputError` for a word that is no file or folder: what s3prl calls an upstream."""
    if name.replace("_", "").isalnum() and not Path(name).exists():
        raise InputError(
            f"there is no folder {name}: expected a run, a saved model or a checkpoint file (or, "
            f"as upstream of a task, {', '.join(SETTINGS_BY_KIND)}, hf:MODEL or s3prl:NAME)"
        )


def is_of_transformers(folder: Path) -> bool:
    """Return whether a folder's `config.json` describes a model of transformers, and not ours."""
    document = read_record(dict[str, Any], folder / CONFIG_NAME, WAY_OUT)
    return str(document.get("model_type", MODEL_TYPE)) != MODEL_TYPE


def check_feature_settings(name: str, config: UpstreamConfig, dataset: Dataset) -> None:
    """Raise `ConfigError` with the differences when dataset and model differ in features."""
    with reading_config(name):
        expected = settings_from_dict(config.features)
        config.require_dims(expected.dims)
    dataset.require_feature(expected.kind)
    require_equal_settings(
        expected,
        dataset.manifest.features[expected.kind],
        who=redact_url(name),
        where=dataset.place,
        way_out="prepare the data with the model's settings, by 'aalbert prepare' with "
        + prepare_options(asdict(expected)),
    )
