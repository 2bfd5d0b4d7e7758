"""Opening a model that reads waves: by its place, or as a plain feature."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from aalbert.common.files import file_digest
from aalbert.common.store import Store, is_url
from aalbert.errors import ConfigError, require
from aalbert.models.checkpoint import find_checkpoint, read_config, reading_config
from aalbert.models.device import best_device
from aalbert.models.downstream import KIND as DOWNSTREAM_KIND
from aalbert.models.downstream import DownstreamModel
from aalbert.models.front_end import FrontEndConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_states import find_state
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.pipeline.convert import load_foreign
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.shards.format.feature_settings import default_settings, fingerprint, settings_from_dict

# Suffixes of files of torch.save; at a URL only these distinguish a file from a folder.
FOREIGN_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


def from_pretrained(place: Path | str, device: str | None = "cpu") -> EmbeddingModel:
    """Open a model in evaluation mode.

    `place` is a saved model, the folder of a pretraining or downstream run, or a checkpoint
    file of s3prl or the AALBERT repository, which is read without running code in it.
    Without a `device` the model is on a GPU, if there is one. Raises `InputError` when there is
    no model, `IntegrityError` when it is damaged, `ConfigError` when there is no such device.
    """
    chosen = choose_device(device)
    if is_foreign(place):
        return open_foreign(place).to(chosen)
    document = read_config(find_checkpoint(place))
    if document["kind"] == DOWNSTREAM_KIND:
        classifier = DownstreamModel.from_pretrained(place)
        mix = classifier.head.mix
        weights = mix.weights().detach() if mix else None
        with reading_config(place):
            opened = EmbeddingModel(
                classifier, classifier.upstream, weights, fingerprint(document), str(place)
            )
    else:
        model = PretrainedModel.from_pretrained(place)
        with reading_config(place):
            opened = EmbeddingModel(
                model, model.upstream, fingerprint=fingerprint(document), place=str(place)
            )
    return opened.to(chosen)


def is_foreign(place: Path | str) -> bool:
    """Return whether a place is a checkpoint file of another system, not a folder."""
    if is_url(place):
        return str(place).endswith(FOREIGN_SUFFIXES)
    return Path(place).is_file() and find_state(place) is None


def open_foreign(place: Path | str) -> EmbeddingModel:
    """Open a checkpoint file of another system, from a path or a URL."""
    with TemporaryDirectory() as folder:
        local = Path(place)
        if is_url(place):
            parent, _, name = str(place).rpartition("/")
            local = Path(folder) / name
            Store(parent).get(name, local)
        model = load_foreign(local)
        digest = fingerprint([model.config.to_dict(), file_digest(local)])
    return EmbeddingModel(model, model.upstream, fingerprint=digest, place=str(place))


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


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best one; `ConfigError` when it does not exist."""
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the device '{name}' cannot be used: {reason}; try cpu") from error
    return device
