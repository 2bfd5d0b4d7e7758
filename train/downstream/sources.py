"""What a run of a task depends on besides its settings: data, upstream, and files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aalbert.common.redaction import redact_url
from aalbert.conversion.saved_model import as_saved
from aalbert.errors import IntegrityError
from aalbert.models.checkpoint import find_checkpoint, read_config, reading_config
from aalbert.models.encoder_names import is_wave_encoder
from aalbert.models.training_facts import read_facts
from aalbert.models.wave_encoders.open import weights_of_encoder
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig
from aalbert.train.downstream.phones import NAMES_FILE
from aalbert.train.downstream.tasks import find_task
from aalbert.train.downstream.trials import choose_trials
from aalbert.train.places import digest_places, lasting_path
from aalbert.train.upstreams import lasting_upstream


def find_sources(config: DownstreamConfig, dataset: Dataset, upstream: str) -> dict[str, Any]:
    """Return what a run depends on besides its settings: the hashes of data, files and upstream.

    They go into its record.
    """
    location = lasting_upstream(upstream)
    return {
        "data_fingerprint": dataset.manifest.fingerprint,
        "upstream": redact_url(location),
        "upstream_weights": weights_of(location),
        "upstream_file": file_of(location),
        "files": digest_places(named_files(config)),
    }


def weights_of(upstream: str) -> str | None:
    """Return the hash of an upstream's weights; plain features have none."""
    if upstream in SETTINGS_BY_KIND:
        return None
    if is_wave_encoder(upstream):
        return weights_of_encoder(upstream)
    return str(read_config(find_checkpoint(as_saved(upstream)))["weights_xxh3"])


def file_of(upstream: str) -> str:
    """Return the hash of the file that an upstream was converted from; "" for one that was not."""
    if upstream in SETTINGS_BY_KIND or is_wave_encoder(upstream):
        return ""
    place = as_saved(upstream)
    document = read_config(find_checkpoint(place))
    with reading_config(place):
        # That of another library has none; the model is refused when it is opened.
        training = document["upstream"].get("training", {})
        return read_facts(training).converted_file_xxh3


def require_same_upstream(record: Mapping[str, Any], upstream: str) -> None:
    """Raise `IntegrityError` when an upstream is not what a run began with.

    The same weights may lie elsewhere; plain features have none, and are the same by name.
    """
    began_with = record["upstream_weights"] or record["upstream"]
    if (weights_of(upstream) or upstream) != began_with:
        raise IntegrityError(
            f"{redact_url(upstream)} holds other weights than when the run began with it: put back "
            "what it was, or train again into another --out"
        )


def named_files(config: DownstreamConfig) -> dict[str, str]:
    """Return the files and folders that settings name, by setting, and the one beside them."""
    splits, alignments = config.splits, config.labels.alignments
    names = str(Path(alignments).with_name(NAMES_FILE)) if alignments else ""
    return {
        "splits.train_list": splits.train_list,
        "splits.dev_list": splits.dev_list,
        "splits.test_list": splits.test_list,
        "labels.alignments": alignments,
        f"labels.alignments, {NAMES_FILE}": names,
        **{f"labels.lexicon[{place}]": path for place, path in enumerate(config.labels.lexicons)},
        # A stored list is part of the dataset, and so of its fingerprint.
        "trials.test": config.trials.test if Path(config.trials.test).is_absolute() else "",
    }


def lasting_lexicon(labels: LabelConfig) -> str | tuple[str, ...]:
    """Return the files of the lexicon with absolute paths."""
    if isinstance(labels.lexicon, str):
        return lasting_path(labels.lexicon)
    return tuple(map(lasting_path, labels.lexicons))


def with_lasting_paths(config: DownstreamConfig, dataset: Dataset) -> DownstreamConfig:
    """Return the settings with absolute paths of files, and with the list of trials to test on."""
    splits, labels, trials = config.splits, config.labels, config.trials
    of_trials = find_task(config.task).labels == "trials"
    test = choose_trials(trials.test, dataset) if of_trials else ""
    return replace(
        config,
        splits=replace(
            splits,
            train_list=lasting_path(splits.train_list),
            dev_list=lasting_path(splits.dev_list),
            test_list=lasting_path(splits.test_list),
        ),
        labels=replace(
            labels,
            alignments=lasting_path(labels.alignments),
            lexicon=lasting_lexicon(labels),
        ),
        trials=replace(trials, test=test),
    )
