"""The data of steps that are timed: synthetic speech, and the features that a preset reads."""

from pathlib import Path

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.train.pretraining.config import PretrainConfig
from benchmarks.pretrain_steps import features_of


def write_speech(corpus: Path, utterances_per_speaker: int = 8) -> None:
    """Write a LibriSpeech of 8 speakers of synthetic speech, with a training split only."""
    write_librispeech(
        corpus,
        speakers=8,
        utterances_per_speaker=utterances_per_speaker,
        seed=1,
        seconds=(9.0, 16.0),
    )


def prepare_for(config: PretrainConfig, corpus: Path, data: Path, workers: int = 1) -> None:
    """Compute the features that a preset reads."""
    stored = PrepareConfig(features=features_of(config))
    limits = PrepareLimits(engine=LocalEngine(workers=workers))
    prepare(read_librispeech(corpus), data, stored, limits)
