"""A LibriSpeech of synthetic speech, of which each speaker is a process's work.

What the processes import is in seconds of theirs, so nothing here knows PyTorch.
"""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from aalbert.pipeline.corpora.synthesis import write_librispeech

READERS_NAME = "SPEAKERS.TXT"
SUBSET = "train-clean-100"
SPEAKERS = range(1000, 1008)


def write_speech(corpus: Path, utterances_per_speaker: int = 8) -> None:
    """Write 8 speakers, with a training split only."""
    (corpus / SUBSET).mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(dir=corpus.parent) as folder,
        ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool,
    ):
        roots = [Path(folder) / str(speaker) for speaker in SPEAKERS]
        counts = [utterances_per_speaker] * len(SPEAKERS)
        list(pool.map(write_speaker, roots, SPEAKERS, counts))
        for root, speaker in zip(roots, SPEAKERS, strict=True):
            (root / SUBSET / str(speaker)).rename(corpus / SUBSET / str(speaker))
        readers = "".join((root / READERS_NAME).read_text("utf-8") for root in roots)
    (corpus / READERS_NAME).write_text(readers, "utf-8")


def write_speaker(root: Path, speaker: int, utterances: int) -> None:
    """Write one speaker."""
    write_librispeech(
        root,
        speakers=1,
        first_speaker=speaker,
        utterances_per_speaker=utterances,
        seed=1,
        seconds=(9.0, 16.0),
    )
