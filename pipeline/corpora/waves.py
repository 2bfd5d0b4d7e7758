"""The waves of a dataset's utterances, read again from the corpus that it was prepared from."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import InputError
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.decode import read_audio, resample
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.shards.reading.dataset import Dataset

# What lists the utterances of a corpus, by the name that datasets record.
READERS: Mapping[str, Callable[[Path], Corpus]] = {
    "librispeech": read_librispeech,
    "voxceleb1": read_voxceleb1,
    "folder": lambda root: read_folder(root, FolderOptions()),
    "manifest": read_manifest_file,
}
WAY_OUT = "name the corpus that it was prepared from with --corpus DIR"


class CorpusWaves:
    """The waves that the features of a dataset were computed from.

    `corpus` is the folder or the list that `prepare` was given. Utterances are found by their keys,
    and conditioned (loudness, silence) as before their features. Raises `InputError` when the
    corpus is gone, or is not the one of the dataset.
    """

    def __init__(self, dataset: Dataset, corpus: str) -> None:
        self.dataset = dataset
        self.corpus = corpus
        utterances = read_corpus(dataset, Path(corpus)).utterances
        self.utterances = {utterance.key: utterance for utterance in utterances}
        # The wave is the same for all features.
        self.settings = next(iter(dataset.manifest.features.values()))
        self.samples = dataset.table.column("samples").to_numpy()
        keys = dataset.column("key")
        missing = [str(key) for key in keys if key not in self.utterances]
        if missing:
            raise InputError(
                f"{corpus} has no recording of {len(missing):,} of the {len(keys):,} utterances of "
                f"{dataset.place}, such as '{missing[0]}': {WAY_OUT}"
            )

    def read(self, row: int, part: slice, sample_rate: int) -> NDArray[np.float32]:
        """Return a part of the wave of a row of the dataset `(samples,)`, at a rate.

        `part` is of samples at the rate of the features. Raises `InputError` when the recording is
        gone, or is not what the features were computed from.
        """
        utterance, settings = self.utterances[self.dataset.key(row)], self.settings
        try:
            audio = read_audio(
                audio_of(utterance), settings.sample_rate, span=(utterance.start, utterance.end)
            )
        except UnusableAudioError as error:
            raise InputError(f"{utterance.place} {error}: {WAY_OUT}") from error
        wave = condition(audio.wave, settings.sample_rate, settings.wave)
        if len(wave) != self.samples[row]:
            raise InputError(
                f"{utterance.place} has {len(wave):,} samples, {self.dataset.place} was prepared "
                f"from {self.samples[row]:,} of '{utterance.key}': it is other audio; {WAY_OUT}"
            )
        wave = wave[part]
        if sample_rate == settings.sample_rate:
            return wave
        return resample(wave, settings.sample_rate, sample_rate)


def read_corpus(dataset: Dataset, place: Path) -> Corpus:
    """Return the corpus at a place, read as that of a dataset was."""
    name = dataset.manifest.corpus
    if name not in READERS:
        raise InputError(
            f"{dataset.place} is of the corpus '{name}', whose recordings cannot be found again: "
            f"prepare it with 'aalbert prepare', as one of {', '.join(READERS)}"
        )
    if not place.exists():
        raise InputError(f"there is no corpus at {place}, whose waves are needed: {WAY_OUT}")
    return READERS[name](place)
