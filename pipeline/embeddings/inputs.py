"""Inputs of `extract` and `predict`: audio files, folders of them, tables, prepared datasets."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NoReturn, Protocol

import numpy as np

from aalbert.common.redaction import redact_url
from aalbert.common.signals import stop_if_asked
from aalbert.common.store import is_url
from aalbert.errors import InputError
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Corpus, Skip, Utterance, estimated_seconds, measure
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.names import key_of
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.corpora.tables.listing import is_listing
from aalbert.pipeline.embeddings.model import Features
from aalbert.shards.format.dataset_folder import MANIFEST_NAME
from aalbert.shards.format.feature_groups import prepare_options
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset

EXPECTED = "audio files, folders of them, tables that list them, or datasets made by 'prepare'"
READERS = 4


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The features of a recording `(frames, dims)`, and the format and flags of its audio."""

    features: Features
    samples: int
    source_sample_rate: int
    source_channels: int
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One input: its labels, its duration (estimated), and the function that loads its features.

    `load` raises `UnusableAudioError` when it cannot. `identity` identifies the content as
    far as that is known without reading it.
    """

    key: str
    source: str
    split: str
    speaker: str | None
    seconds: float
    identity: tuple[str | int | float | None, ...]
    load: Callable[[], Loaded]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The recordings of a job, in the order in which they were given, and unusable inputs.

    `places` are the paths and URLs that the user gave.
    """

    recordings: Sequence[Recording]
    skipped: Sequence[Skip] = ()
    places: Sequence[str] = ()


class WaveReader(Protocol):
    """A model that reads waves: its features, and what computes them."""

    @property
    def settings(self) -> FeatureSettings:
        """The settings of the features."""
        ...

    def features_of(self, samples: Features) -> Features:
        """Return the features of samples at the rate of the settings."""
        ...


def find_inputs(reader: WaveReader, places: Sequence[str], splits: Sequence[str] = ()) -> Inputs:
    """Return the recordings at places, and what cannot be read.

    `splits` are the splits of datasets to use; all by default. Raises `InputError` for a
    place where nothing is, and two recordings with one key, `ConfigError` for a dataset whose
    features are not those of the model.
    """
    counts = Counter(place if is_url(place) else os.path.abspath(place) for place in places)
    [(place, count)] = counts.most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(f"{redact_url(place)} is given {count} times: give it once")
    recordings: list[Recording] = []
    skipped: list[Skip] = []
    names = names_of_files([place for place in places if is_one_file(place)])
    for place in places:
        if is_url(place) or (Path(place) / MANIFEST_NAME).is_file():
            recordings += dataset_recordings(reader, Dataset(place), splits)
        else:
            corpus = read_file(place, names[place]) if place in names else read_corpus(Path(place))
            recordings += [audio_recording(reader, utterance) for utterance in corpus.utterances]
            skipped += corpus.skipped
    check_unique(recordings)
    return Inputs(recordings=recordings, skipped=skipped, places=places)


def by_length(recordings: Iterable[Recording]) -> list[Recording]:
    """Return recordings with the shortest first, so that batches have little padding."""
    return sorted(recordings, key=lambda each: (each.seconds, each.key))


def identities(recordings: Iterable[Recording]) -> list[tuple[str | int | float | None, ...]]:
    """Return what tells other recordings from these."""
    return [(each.key, each.source, *each.identity) for each in recordings]


def refuse_all(skipped: Sequence[Skip]) -> NoReturn:
    """Raise `InputError` for inputs of which none can be used, with an example."""
    example = f"; for example {skipped[0].source}: {skipped[0].reason}" if skipped else ""
    raise InputError(f"none of the {len(skipped)} inputs can be used{example}")


def is_one_file(place: str) -> bool:
    """Return whether a place is a recording, not a list of them."""
    return not is_url(place) and Path(place).is_file() and not is_listing(Path(place))


def names_of_files(places: Sequence[str]) -> dict[str, str]:
    """Return the names from which the keys of files are made: their own, if these differ.

    Else they are the paths below the folder that holds all.
    """
    absolute = {place: os.path.abspath(place) for place in places}
    if len({Path(place).name for place in places}) == len(set(absolute.values())):
        return {place: Path(place).name for place in places}
    root = os.path.commonpath(absolute.values())
    return {place: Path(os.path.relpath(path, root)).as_posix() for place, path in absolute.items()}


def read_file(place: str, name: str) -> Corpus:
    """Return the corpus of a single file, whose key is made of a name."""
    path = Path(place)
    size = measure(str(path), path)
    if isinstance(size, Skip):
        return Corpus(name="file", root=path.parent, fields=(), utterances=(), skipped=(size,))
    utterance = Utterance(key=key_of(name), split="all", source=place, path=path, size=size)
    return Corpus(name="file", root=path.parent, fields=(), utterances=(utterance,), skipped=())


def read_corpus(path: Path) -> Corpus:
    """Return the corpus at a path: the rows of a list, or the audio of a folder."""
    if is_listing(path):
        return read_manifest_file(path)
    if path.is_dir():
        return read_folder(path, FolderOptions())
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: expected {EXPECTED}")
    raise InputError(f"{path} is neither a file nor a folder: expected {EXPECTED}")


def audio_recording(reader: WaveReader, utterance: Utterance) -> Recording:
    """Return an audio file, or a part of one, as an input."""
    return Recording(
        key=utterance.key,
        source=utterance.source,
        split=utterance.split,
        speaker=utterance.speaker,
        seconds=estimated_seconds(utterance),
        identity=(utterance.size, utterance.start, utterance.end),
        load=partial(load_audio, reader, utterance),
    )


def load_audio(reader: WaveReader, utterance: Utterance) -> Loaded:
    """Decode an utterance and compute the features that the model reads."""
    audio = read_audio(
        audio_of(utterance), reader.settings.sample_rate, span=(utterance.start, utterance.end)
    )
    return Loaded(
        features=reader.features_of(audio.wave),
        samples=len(audio.wave),
        source_sample_rate=audio.source_sample_rate,
        source_channels=audio.source_channels,
        flags=audio.flags,
    )


def dataset_recordings(
    reader: WaveReader, dataset: Dataset, splits: Sequence[str]
) -> Iterator[Recording]:
    """Yield the utterances of a dataset as inputs; `ConfigError` when its features differ."""
    expected = reader.settings
    dataset.require_feature(expected.kind)
    require_equal_settings(
        expected,
        dataset.manifest.features[expected.kind],
        who="the model",
        where=dataset.place,
        way_out="give the audio itself, or prepare the data with the model's settings, by 'aalbert "
        f"prepare' with {prepare_options(asdict(expected))}",
    )
    rows = dataset.rows(splits or ["*"])
    columns = {name: dataset.column(name) for name in ("key", "source", "split", "speaker")}
    samples = dataset.table.column("samples").to_numpy()
    lock = Lock()
    for row in rows.tolist():
        yield Recording(
            key=str(columns["key"][row]),
            source=str(columns["source"][row]),
            split=str(columns["split"][row]),
            speaker=columns["speaker"][row],
            seconds=int(samples[row]) / expected.sample_rate,
            identity=(dataset.manifest.fingerprint, row),
            load=partial(load_row, lock, dataset, row, expected.kind),
        )


def load_row(lock: Lock, dataset: Dataset, row: int, feature: str) -> Loaded:
    """Read the features of an utterance, which are stored in float16.

    Only one thread at a time may map a shard: the one that holds `lock`.
    """
    with lock:
        features = dataset.features(row, feature).astype(np.float32)
    values = dataset.table.slice(row, 1).to_pylist()[0]
    return Loaded(
        features=features,
        samples=values["samples"],
        source_sample_rate=values["source_sample_rate"],
        source_channels=values["source_channels"],
        flags=tuple(values["flags"]),
    )


def check_unique(recordings: Iterable[Recording]) -> None:
    """Raise `InputError` for two recordings with one key, whose embeddings would have one name."""
    sources: dict[str, str] = {}
    for recording in recordings:
        if recording.key in sources:
            raise InputError(
                f"two inputs have the key '{recording.key}': {sources[recording.key]} and "
                f"{recording.source}; give the folder that holds both, or one after the other"
            )
        sources[recording.key] = recording.source


def prefetch(
    recordings: Iterable[Recording], skipped: list[Skip], readers: int = READERS
) -> Iterator[tuple[Recording, Loaded]]:
    """Yield recordings with their features, in order, and load the next few in threads.

    Recordings that cannot be used are added to `skipped`.
    """
    remaining = iter(recordings)
    pool = ThreadPoolExecutor(readers)
    waiting: list[tuple[Recording, Future[Loaded]]] = []
    try:
        while True:
            stop_if_asked()
            for recording in islice(remaining, 2 * readers - len(waiting)):
                waiting.append((recording, pool.submit(recording.load)))
            if not waiting:
                return
            recording, future = waiting.pop(0)
            try:
                yield recording, future.result()
            except UnusableAudioError as error:
                skipped.append(Skip(source=recording.source, reason=str(error)))
    finally:
        pool.shutdown(cancel_futures=True)
