"""Synthetic readers of whom it is known which phones they speak, and how loudly."""

import csv
import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.models import HeadConfig
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.train.downstream.config import (
    BaselineConfig,
    DownstreamConfig,
    LabelConfig,
    SplitConfig,
)
from aalbert.train.downstream.run import start_downstream

SPLITS = SplitConfig(train="*", dev="drawn", test="drawn", draw="speakers", drawn_proportion=0.2)


@pytest.fixture(scope="session")
def spoken_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of recordings with the phones that are said as words, and their level in dB.

    `lexicon.txt` beside the prepared dataset pronounces these words.
    """
    root = tmp_path_factory.mktemp("spoken")
    corpus = root / "corpus"
    write_librispeech(corpus, speakers=10, utterances_per_speaker=6, seed=5, seconds=(1.0, 2.0))
    names = json.loads((corpus / "phones.json").read_text())
    silence = names.index("SIL")
    rows = []
    for line in (corpus / "alignments.txt").read_text().splitlines():
        key, *numbers = line.split()
        said = [number for number, _ in groupby(map(int, numbers)) if number != silence]
        speaker, chapter, _ = key.split("-")
        path = corpus / "train-clean-100" / speaker / chapter / f"{key}.flac"
        samples, _ = soundfile.read(path)
        level = 10 * np.log10(np.mean(samples**2))
        text = " ".join(f"w{names[each]}" for each in said)
        rows.append((key, path, speaker, text, f"{level:.3f}"))
    with (corpus / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("key", "path", "speaker", "text", "level"), *rows])
    lexicon = (f"W{name}  {name}" for name in names if name != "SIL")
    (root / "lexicon.txt").write_text("\n".join(lexicon) + "\n")
    prepare(
        read_manifest_file(corpus / "list.csv"),
        root / "data",
        PrepareConfig(features=(LogMelSettings(mels=20),)),
        PrepareLimits(engine=LocalEngine(workers=1)),
    )
    return root / "data"


def recognition_config(data: Path) -> DownstreamConfig:
    """The settings of a recogniser of phones that takes seconds."""
    return DownstreamConfig(
        task="librispeech-phone-recognition",
        splits=SPLITS,
        labels=LabelConfig(column="text", lexicon=str(data.parent / "lexicon.txt")),
        head=HeadConfig(projection=32, pooling="none"),
        baseline=BaselineConfig(context=3),
        learning_rate=1e-2,
        batch_seconds=5,
        crop_seconds=0,
        epochs=16,
        prefetch=0,
    )


REGRESSION = DownstreamConfig(
    task="regress",
    splits=replace(SPLITS, draw="utterances"),
    labels=LabelConfig(column="level"),
    learning_rate=1e-2,
    batch_seconds=5,
    crop_seconds=0,
    epochs=20,
    prefetch=0,
)


@pytest.fixture(scope="session")
def recognition_run(spoken_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that recognises phones."""
    out = tmp_path_factory.mktemp("runs") / "recognition"
    start_downstream(recognition_config(spoken_data), spoken_data, "logmel", out)
    return out


@pytest.fixture(scope="session")
def regression_run(spoken_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that predicts the level of recordings."""
    out = tmp_path_factory.mktemp("runs") / "regression"
    start_downstream(REGRESSION, spoken_data, "logmel", out)
    return out
