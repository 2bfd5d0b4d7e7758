"""What is to be embedded: audio files, folders of them, tables, and datasets made by `prepare`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np

from aalbert.common.store import is_url
from aalbert.errors import InputError
from aalbert.pipeline.audio.decode import UnusableAudioError, read_audio
from aalbert.pipeline.corpora.corpus import Corpus, Skip, Utterance, estimated_seconds, measure
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.names import key_of
from aalbert.pipeline.corpora.table_file import SUFFIXES as TABLE_SUFFIXES
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.pipeline.embeddings.static_batches import Features
from aalbert.shards.format.manifest import MANIFEST_NAME
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset

EXPECTED = "audio files, folders of them, tables that list them, or datasets made by 'prepare'"
READERS = 4


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The features of a recording `(frames, dims)`, and what is known of its audio."""

    features: Features
    samples: int
    source_sample_rate: int
    source_channels: int
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One input: what it is called, about how long it is, and how its features are had.

    `load` raises `UnusableAudioError` when they cannot be had. `identity` says which bytes
    are meant, as far as that is known without reading them.
    """

    key: str
    source: str
    split: str
    speaker: str | None
    seconds: float
    identity: tuple[str | int | float | None, ...]
    load: Callable[[], Loaded]


def find_recordings(
    model: EmbeddingModel, inputs: Sequence[str], splits: Sequence[str] = ()
) -> tuple[list[Recording], list[Skip]]:
    """Return the recordings that the inputs mean, the shortest first, and what cannot be read.

    `splits` are the splits of datasets to take; all by default. Raises `InputError` for an
    input that is not there or two recordings with one key, `ConfigError` for a dataset whose
    features are not those of the model.
    """
    recordings: list[Recording] = []
    skipped: list[Skip] = []
    for place in inputs:
        if is_url(place) or (Path(place) / MANIFEST_NAME).is_file():
            recordings += rows_of(model, Dataset(place), splits)
        else:
            corpus = read_corpus(Path(place))
            recordings += [recording_of(model, utterance) for utterance in corpus.utterances]
            skipped += corpus.skipped
    check_unique(recordings)
    return sorted(recordings, key=lambda each: (each.seconds, each.key)), skipped


def read_corpus(path: Path) -> Corpus:
    """Return what a path means: the audio of a folder, the rows of a table, or a file itself."""
    if path.is_dir():
        return read_folder(path, FolderOptions())
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_manifest_file(path)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: expected {EXPECTED}")
    size = measure(str(path), path)
    if isinstance(size, Skip):
        return Corpus(name="file", root=path.parent, fields=(), utterances=(), skipped=(size,))
    utterance = Utterance(
        key=key_of(path.name), split="all", source=str(path), path=path, size=size
    )
    return Corpus(name="file", root=path.parent, fields=(), utterances=(utterance,))


def recording_of(model: EmbeddingModel, utterance: Utterance) -> Recording:
    """Return an audio file, or a part of one, as an input."""
    return Recording(
        key=utterance.key,
        source=utterance.source,
        split=utterance.split,
        speaker=utterance.speaker,
        seconds=estimated_seconds(utterance),
        identity=(utterance.size, utterance.start, utterance.end),
        load=partial(load_audio, model, utterance),
    )


def load_audio(model: EmbeddingModel, utterance: Utterance) -> Loaded:
    """Decode an utterance and compute the features that the model reads."""
    audio = read_audio(utterance.path, model.sample_rate, span=(utterance.start, utterance.end))
    return Loaded(
        features=model.features_of(audio.wave),
        samples=len(audio.wave),
        source_sample_rate=audio.source_sample_rate,
        source_channels=audio.source_channels,
        flags=audio.flags,
    )


def rows_of(model: EmbeddingModel, dataset: Dataset, splits: Sequence[str]) -> Iterator[Recording]:
    """Yield the utterances of a dataset as inputs; `ConfigError` when its features are others."""
    expected = model.settings
    dataset.require_feature(expected.kind)
    require_equal_settings(
        expected,
        dataset.manifest.features[expected.kind],
        who="the model",
        where=dataset.place,
        way_out="prepare the data with the model's settings, or give the audio itself",
    )
    rows = dataset.rows(splits or ["*"])
    named = {name: dataset.column(name) for name in ("key", "source", "split", "speaker")}
    samples = dataset.table.column("samples").to_numpy()
    alone = Lock()
    for row in rows.tolist():
        yield Recording(
            key=str(named["key"][row]),
            source=str(named["source"][row]),
            split=str(named["split"][row]),
            speaker=named["speaker"][row],
            seconds=int(samples[row]) / expected.sample_rate,
            identity=(dataset.manifest.fingerprint, row),
            load=partial(load_row, alone, dataset, row, expected.kind),
        )


def load_row(alone: Lock, dataset: Dataset, row: int, feature: str) -> Loaded:
    """Read the features of an utterance as they are stored, in float16.

    Mapping a shard is for one thread at a time.
    """
    with alone:
        features = dataset.features(row, feature).astype(np.float32)
    about = dataset.table.slice(row, 1).to_pylist()[0]
    return Loaded(
        features=features,
        samples=about["samples"],
        source_sample_rate=about["source_sample_rate"],
        source_channels=about["source_channels"],
        flags=tuple(about["flags"]),
    )


def check_unique(recordings: Iterable[Recording]) -> None:
    """Refuse two recordings with one key: their embeddings would have one name."""
    sources: dict[str, str] = {}
    for recording in recordings:
        if recording.key in sources:
            raise InputError(
                f"two inputs have the key '{recording.key}': {sources[recording.key]} and "
                f"{recording.source}; give the folder that holds both, or extract them one "
                "after the other"
            )
        sources[recording.key] = recording.source


def load_ahead(
    recordings: Iterable[Recording], skipped: list[Skip], readers: int = READERS
) -> Iterator[tuple[Recording, Loaded]]:
    """Load recordings in threads, a few ahead of the one that is used; in order.

    What cannot be used goes to `skipped`.
    """
    left = iter(recordings)
    with ThreadPoolExecutor(readers) as pool:
        waiting: list[tuple[Recording, Future[Loaded]]] = []
        while True:
            for recording in islice(left, 2 * readers - len(waiting)):
                waiting.append((recording, pool.submit(recording.load)))
            if not waiting:
                return
            recording, future = waiting.pop(0)
            try:
                yield recording, future.result()
            except UnusableAudioError as error:
                skipped.append(Skip(source=recording.source, reason=str(error)))
