"""The waves of a dataset's utterances, read again from the corpus that it was prepared from."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from aalbert.common.redaction import redact_url
from aalbert.common.store import is_url
from aalbert.errors import InputError
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.decode import read_audio, resample
from aalbert.pipeline.audio.features import extract
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Utterance
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.corpora.tables.listing import is_listing
from aalbert.shards.reading.dataset import Dataset

WAY_OUT = "name the corpus that it was prepared from with --corpus DIR"
# The mean of a feature may differ so much from the stored one, as another version of a decoder or
# of a resampler rounds in another way. That of other speech differs by far more.
MEAN_TOLERANCE, RELATIVE_MEAN_TOLERANCE = 0.02, 1e-3

Recordings = Mapping[str, Utterance]


class CorpusWaves:
    """The waves that the features of a dataset were computed from.

    `corpus` is the folder or the list that `prepare` was given, and nothing is looked for in it
    before the first wave is read. Waves are conditioned (loudness, silence) as before their
    features. Raises `InputError` when the corpus is gone, or is not the one of the dataset.
    """

    def __init__(self, dataset: Dataset, corpus: str) -> None:
        if is_url(corpus):
            raise InputError(
                f"--corpus {redact_url(corpus)} is a URL, and waves are read from a local folder: "
                "copy the corpus into one"
            )
        if not Path(corpus).exists():
            raise InputError(f"there is no corpus at {corpus}, whose waves are needed: {WAY_OUT}")
        self.dataset = dataset
        self.corpus = Path(corpus)
        # The wave is the same for all features.
        self.settings = next(iter(dataset.manifest.features.values()))
        self.samples = dataset.table.column("samples").to_numpy()
        self.is_checked = np.zeros(len(dataset), bool)
        self.lock = Lock()

    def read(self, row: int, part: slice, sample_rate: int) -> NDArray[np.float32]:
        """Return a part of the wave of a row of the dataset `(samples,)`, at a rate.

        `part` is of samples at the rate of the features. Raises `InputError` when the recording is
        gone, or is not what the features were computed from.
        """
        # Several threads read: one of them finds the recordings.
        with self.lock:
            utterance = self.recordings[self.dataset.key(row)]
        settings = self.settings
        try:
            audio = read_audio(
                audio_of(utterance), settings.sample_rate, span=(utterance.start, utterance.end)
            )
        except UnusableAudioError as error:
            raise InputError(f"{utterance.place} {error}: {WAY_OUT}") from error
        wave = condition(audio.wave, settings.sample_rate, settings.wave)
        if not self.is_checked[row]:
            self.require_same(row, wave, utterance)
            self.is_checked[row] = True
        wave = wave[part]
        if sample_rate == settings.sample_rate:
            return wave
        return resample(wave, settings.sample_rate, sample_rate)

    def require_same(self, row: int, wave: NDArray[np.float32], utterance: Utterance) -> None:
        """Raise `InputError` unless a wave gives the stored feature, as its mean tells."""
        if len(wave) != self.samples[row]:
            raise InputError(
                f"{utterance.place} has {len(wave):,} samples, {self.dataset.place} was prepared "
                f"from {self.samples[row]:,} of '{utterance.key}': it is other audio; {WAY_OUT}"
            )
        expected = self.dataset.mean(row, self.settings.kind)
        found = extract(wave, self.settings).mean(axis=0)
        if not np.allclose(found, expected, RELATIVE_MEAN_TOLERANCE, MEAN_TOLERANCE):
            raise InputError(
                f"{utterance.place} does not give the {self.settings.kind} that "
                f"{self.dataset.place} stores of '{utterance.key}', whose mean differs by up to "
                f"{np.abs(found - expected).max():.2f}: it is other audio; {WAY_OUT}"
            )

    @cached_property
    def recordings(self) -> Recordings:
        """The recordings of all utterances by their keys; `InputError` when some are not there."""
        found = find_recordings(self.dataset, self.corpus)
        keys = self.dataset.column("key")
        missing = [key for key in keys if key not in found]
        if missing:
            raise InputError(
                f"{self.corpus} has no recording of {len(missing):,} of the {len(keys):,} "
                f"utterances of {self.dataset.place}, such as '{missing[0]}': {WAY_OUT}"
            )
        return found


def find_recordings(dataset: Dataset, corpus: Path) -> Recordings:
    """Return the recordings of a dataset that a corpus has, by their keys.

    They are the files that the index names, below the corpus. A list alone knows which parts of
    them are meant, and LibriSpeech may be archives.
    """
    if dataset.manifest.corpus == "manifest" and is_listing(corpus):
        return by_key(read_manifest_file(corpus).utterances)
    files = by_key(files_of(dataset, corpus))
    if dataset.manifest.corpus == "librispeech" and len(files) < len(dataset):
        return {**files, **by_key(read_librispeech(corpus).utterances)}
    return files


def files_of(dataset: Dataset, corpus: Path) -> Iterator[Utterance]:
    """Yield the utterances whose recordings are files below a corpus, as the index names them."""
    columns = [dataset.column(name) for name in ("key", "split", "source")]
    for key, split, source in zip(*columns, strict=True):
        path = corpus / str(source)
        if path.is_file():
            # Its size matters to `prepare` alone.
            yield Utterance(key=str(key), split=str(split), source=str(source), path=path, size=0)


def by_key(utterances: Iterable[Utterance]) -> Recordings:
    """Return utterances by their keys."""
    return {utterance.key: utterance for utterance in utterances}
