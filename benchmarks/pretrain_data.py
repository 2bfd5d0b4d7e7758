"""The data of steps that are timed: the features that a preset reads."""

from pathlib import Path

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.train.pretraining.config import PretrainConfig
from benchmarks.pretrain_steps import features_of


def prepare_for(config: PretrainConfig, corpus: Path, data: Path, workers: int = 1) -> None:
    """Compute the features that a preset reads."""
    stored = PrepareConfig(features=features_of(config))
    limits = PrepareLimits(engine=LocalEngine(workers=workers))
    prepare(read_librispeech(corpus), data, stored, limits)
