"""Opening a model that reads waves: by its place, or as a plain feature."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from aalbert.common.files import file_digest
from aalbert.common.redaction import redact_url
from aalbert.conversion.checkpoint_file import is_foreign, local_file
from aalbert.conversion.import_model import load_foreign
from aalbert.conversion.published_names import find_published
from aalbert.errors import require
from aalbert.models.any_upstream import require_own
from aalbert.models.checkpoint import find_checkpoint, lasting_name, read_config, reading_config
from aalbert.models.device import choose_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.saved_model import load_model
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.shards.format.feature_settings import default_settings, fingerprint, settings_from_dict


def from_pretrained(place: Path | str, device: str | None = "cpu") -> EmbeddingModel:
    """Open a model in evaluation mode.

    `place` is a saved model, the folder of a pretraining or downstream run, or a checkpoint
    file of s3prl or the AALBERT repository, which is read without running code in it; or a model
    or such a file on the Hugging Face hub (see `find_hub_place`), also by s3prl's name of it.
    Without a `device` the model is on a GPU, if there is one. Raises `InputError` when there is
    no model, or one whose encoder is of another library, `IntegrityError` when it is damaged,
    `ConfigError` when there is no such device.
    """
    chosen = choose_device(device)
    place = lasting_name(find_published(place) if isinstance(place, str) else place)
    if is_foreign(place):
        return open_foreign(place).to(chosen)
    document = read_config(find_checkpoint(place))
    model = load_model(place, document["kind"])
    upstream = require_own(model.upstream, place)
    mix = model.head.mix if isinstance(model, DownstreamModel) else None
    weights = mix.weights().detach() if mix else None
    with reading_config(place):
        opened = EmbeddingModel(
            model, upstream, weights, fingerprint(document), redact_url(str(place))
        )
    return opened.to(chosen)


def open_foreign(place: Path | str) -> EmbeddingModel:
    """Open a checkpoint file of another system, from a path, a URL or the hub."""
    with local_file(place) as local:
        model = load_foreign(local)
        digest = fingerprint([model.config.to_dict(), file_digest(local)])
    return EmbeddingModel(model, model.upstream, fingerprint=digest, place=redact_url(str(place)))


def feature_model(
    kind: str, *, deltas: int = 0, normalisation: str = "none", **settings: Any
) -> EmbeddingModel:
    """Return a feature as a model without an encoder, whose only state is the feature.

    `settings` are those of the feature. Raises `ConfigError` for unknown features or settings.
    """
    known = asdict(default_settings(kind))
    document = {**known, **settings}
    feature = settings_from_dict(document)
    require(
        normalisation in ("none", "utterance"),
        f"normalisation is '{normalisation}': plain features have none or utterance",
    )
    front_end = FrontEndConfig(
        feature_dims=feature.dims,
        deltas=deltas,
        normalisation="utterance" if normalisation == "utterance" else "none",
    )
    upstream = Upstream(UpstreamConfig(features=document, front_end=front_end))
    return EmbeddingModel(upstream, upstream, fingerprint=fingerprint([document, deltas]))
