"""Waves for encoders that read them: `train` says when, `pipeline` knows how."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aalbert.shards.reading.dataset import Dataset
    from aalbert.train.downstream.waves import WaveCorpus, Waves

CorpusOption = Annotated[
    str | None,
    typer.Option(
        "--corpus",
        metavar="DIR",
        help="The corpus that the dataset was prepared from, for an upstream that reads waves.",
    ),
]


def wave_corpus(place: str | None, *, to_listen: bool = False) -> "WaveCorpus":
    """Return the corpus at a place, or at none that is known, with what reads its waves.

    With `to_listen` these are for people, not only for an upstream.
    """
    from aalbert.train.downstream.waves import WaveCorpus

    return WaveCorpus(open_waves, place, to_listen)


def open_waves(dataset: "Dataset", corpus: str) -> "Waves":
    """Return the waves of a dataset, read from its corpus."""
    from aalbert.pipeline.corpora.waves import CorpusWaves

    return CorpusWaves(dataset, corpus)
