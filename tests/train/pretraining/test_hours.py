"""The hours of speech that lead to a model, which its card and comparisons tell."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.models.training_facts import read_facts
from aalbert.shards.format.manifest import Manifest
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.hub_datasets import LIBRISPEECH_UTTERANCES, speech_name
from aalbert.train.pretraining.build import select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.speech import speech_hours
from aalbert.train.pretraining.start import Start, open_start


@pytest.fixture(scope="module")
def start(pretrained: Path) -> Start:
    return open_start(pretrained)


def after(start: Start, hours: Mapping[str, float]) -> Start:
    """A model that learned from this speech."""
    training = {**start.origin.training, "speech_hours": hours}
    return Start(start.model, replace(start.origin, training=training))


def all_of(data: Path, split: str) -> Selection:
    dataset = Dataset(data)
    return Selection(dataset, dataset.rows([split]))


def test_hours_are_those_of_the_utterances_to_train_on(
    pretrain_config: PretrainConfig, librispeech_data: Path, start: Start
) -> None:
    dataset = Dataset(librispeech_data)
    training = select_utterances(pretrain_config, [dataset]).training
    (rows,) = (part.rows for part in training)
    seconds = dataset.table.column("samples").to_numpy()[rows].sum() / 16_000
    hours = speech_hours(training, "logmel", None)
    # A frame more or less an utterance.
    assert sum(hours.values()) == pytest.approx(seconds / 3600, abs=0.01 * len(rows) / 3600)
    assert len(rows) < len(dataset)
    assert read_facts(start.origin.training).speech_hours == hours


def test_names_of_speech_are_asked_for_by_split_and_fingerprints_are_computed_once(
    librispeech_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of a million utterances they would take hours."""
    asked, computed = [], []

    def ask(manifest: Manifest, split: str) -> str:
        asked.append(split)
        return speech_name(manifest, split)

    def compute(document: object) -> str:
        computed.append(document)
        return "0" * 16

    monkeypatch.setattr("aalbert.train.pretraining.speech.speech_name", ask)
    selection = all_of(librispeech_data, "*")
    vars(selection.dataset.manifest).pop("fingerprint")
    monkeypatch.setattr("aalbert.shards.format.manifest.fingerprint", compute)
    hours = speech_hours([selection], "logmel", None)
    splits = list(selection.dataset.manifest.splits)
    assert asked == splits and len(hours) == len(splits)
    assert selection.dataset.manifest.fingerprint == "0" * 16 and len(computed) == 1


def test_other_speech_is_added_and_the_same_counts_once(
    start: Start, librispeech_data: Path, voxceleb1_data: Path
) -> None:
    other, same = (all_of(voxceleb1_data, split) for split in ("train", "train"))
    first = speech_hours([other], "logmel", None)
    (own,) = first.values()
    own_speech = dict(start.origin.training["speech_hours"])
    both = speech_hours([other], "logmel", start)
    assert sum(both.values()) == pytest.approx(own + sum(own_speech.values()))
    again = speech_hours([same], "logmel", after(start, both))
    assert again == both
    # Half of a split before, and all of it now.
    half = {name: hours / 2 for name, hours in both.items()}
    assert speech_hours([other], "logmel", after(start, half)) == {**half, **first}


def test_splits_of_one_dataset_are_other_speech(voxceleb1_data: Path, start: Start) -> None:
    parts = [speech_hours([all_of(voxceleb1_data, name)], "logmel", None) for name in ("train",)]
    parts.append(speech_hours([all_of(voxceleb1_data, "test")], "logmel", None))
    joint = speech_hours([all_of(voxceleb1_data, "test")], "logmel", after(start, parts[0]))
    assert joint == {**parts[0], **parts[1]} and len(joint) == 2


def test_hours_are_unknown_where_those_of_the_start_are(start: Start, voxceleb1_data: Path) -> None:
    hours = speech_hours([all_of(voxceleb1_data, "train")], "logmel", after(start, {}))
    assert hours == {} and read_facts({"speech_hours": hours}).hours is None


def test_official_subsets_are_the_same_speech_in_every_dataset(librispeech_data: Path) -> None:
    manifest = Dataset(librispeech_data).manifest
    name = "train-clean-100"
    whole = replace(manifest.splits[name], utterances=LIBRISPEECH_UTTERANCES[name])
    official = replace(manifest, splits={name: whole})
    assert speech_name(official, name) == "openslr/librispeech_asr/train-clean-100"
    assert speech_name(manifest, name) == f"{manifest.fingerprint}/{name}"
    assert read_facts({"speech_hours": {"a": 1.5, "b": 2.0}}).hours == 3.5
