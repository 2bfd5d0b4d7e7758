"""The recordings of examples in a page: read again from the corpus, short, as FLAC."""

import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from aalbert.errors import require
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.waves import WaveCorpus, Waves
from aalbert.train.places import open_data
from aalbert.train.run_folder import RunFolder

# What speech needs; a page would weigh more with a higher rate.
HIGHEST_RATE = 16_000


def require_recordings(runs: Sequence[Path], data: Path | str | None, corpus: WaveCorpus) -> None:
    """Raise an error unless recordings of the runs' data can be read, before anything is tested.

    `ConfigError` when no corpus is named, `InputError` when it is gone or is another one.
    """
    for run in runs:
        folder = RunFolder(run)
        dataset = open_data(folder.read_record(), data)
        open_recordings(dataset, corpus, folder).read(0, slice(0, 1), HIGHEST_RATE)


def open_recordings(dataset: Dataset, corpus: WaveCorpus, run: RunFolder) -> Waves:
    """Return the waves of a dataset from a corpus, or from the one that the run's record names."""
    place = corpus.or_recorded(run.read_record()).place
    require(
        place is not None,
        f"--audio plays recordings of {dataset.place}, which stores features alone: name the "
        "corpus that it was prepared from with --corpus DIR",
    )
    assert place is not None
    return corpus.open(dataset, place)


def recording_uri(waves: Waves, row: int, frames: int, settings: FeatureSettings) -> str:
    """Return the part of a recording that the first frames are of, as a `data:` address of FLAC.

    `settings` are those of the feature whose frames they are.
    """
    rate = min(settings.sample_rate, HIGHEST_RATE)
    wave = waves.read(row, slice(0, frames * settings.shift_samples), rate)
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(wave, -1, 1), rate, "PCM_16", format="FLAC")
    return "data:audio/flac;base64," + b64encode(stream.getvalue()).decode("ascii")
