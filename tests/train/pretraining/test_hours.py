"""The hours of speech that lead to a model, which its card and comparisons tell."""

from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.shards.reading.dataset import Dataset
from aalbert.train.pretraining.build import select_utterances, training_hours
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.start import Start, open_start


@pytest.fixture(scope="module")
def start(pretrained: Path) -> Start:
    return open_start(pretrained)


def hours_of(config: PretrainConfig, data: Path, start: Start | None = None) -> float | None:
    return training_hours(config, select_utterances(config, [Dataset(data)], start), start)


def test_hours_are_those_of_the_utterances_to_train_on(
    pretrain_config: PretrainConfig, librispeech_data: Path
) -> None:
    dataset = Dataset(librispeech_data)
    rows = select_utterances(pretrain_config, [dataset]).training[0].rows
    samples = dataset.table.column("samples").to_numpy()
    seconds = samples[rows].sum() / 16_000
    # A frame more or less an utterance.
    assert hours_of(pretrain_config, librispeech_data) == pytest.approx(
        seconds / 3600, abs=0.01 * len(rows) / 3600
    )
    assert len(rows) < len(dataset)


def test_hours_of_other_speech_are_added_to_those_of_the_start(
    pretrain_config: PretrainConfig, start: Start, librispeech_data: Path, voxceleb1_data: Path
) -> None:
    other = replace(pretrain_config, data=replace(pretrain_config.data, splits=("*",)))
    own, known = hours_of(other, voxceleb1_data), start.origin.training["hours"]
    assert own is not None and own > 0 and known == hours_of(pretrain_config, librispeech_data)
    assert hours_of(other, voxceleb1_data, start) == pytest.approx(own + known, abs=2e-6)
    # The same speech again teaches nothing of other speech.
    assert hours_of(pretrain_config, librispeech_data, start) == known


def test_hours_are_unknown_where_those_of_the_start_are(
    pretrain_config: PretrainConfig, start: Start, voxceleb1_data: Path
) -> None:
    other = replace(pretrain_config, data=replace(pretrain_config.data, splits=("*",)))
    training = {**start.origin.training, "hours": None}
    converted = Start(start.model, replace(start.origin, training=training))
    assert hours_of(other, voxceleb1_data, converted) is None
