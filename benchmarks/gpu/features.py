"""The stage `features`, and the data of the other stages: brought along or of synthetic speech.

The features of a preset are those that were brought along if they are what it reads. For others,
speech is synthesised and prepared, which needs this package's kernel, once for all presets that
read the same.
"""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import xxhash

from aalbert.errors import ConfigError, InputError
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.build import select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.recipes import read_recipe
from benchmarks.gpu.attempts import Attempts
from benchmarks.gpu.context import Context
from benchmarks.pretrain_steps import features_of, scale

# Two steps of the recipes' own batches fit into an epoch of so much synthetic speech.
UTTERANCES_PER_SPEAKER = {"cuda": 12, "cpu": 2}
# Of a step in a rehearsal.
REHEARSAL_SECONDS = 4.0
SMALL_ENCODER = {"layers": 2, "width": 32, "heads": 4, "feed_forward_width": 64}


def run(context: Context) -> None:
    """Find or make the features of every preset."""
    attempts = Attempts(context)
    for name in preset_names():
        with attempts.attempt(preset=name):
            started = time.perf_counter()
            data = data_for(read_preset_config(name, context), context)
            dataset = Dataset(data)
            context.write(
                kind="features",
                preset=name,
                brought=str(data) == context.features,
                utterances=len(dataset),
                hours=round(dataset.manifest.hours, 3),
                seconds=round(time.perf_counter() - started, 2),
            )
    attempts.end()


def read_preset_config(name: str, context: Context) -> PretrainConfig:
    """Return the settings of a preset for all training data there are; tiny in a rehearsal."""
    config = read_recipe(name)
    config = replace(config, data=replace(config.data, splits=("train*",)))
    if not context.rehearsal:
        return config
    encoder = replace(config.encoder, **SMALL_ENCODER)  # type: ignore[arg-type]
    return scale(replace(config, encoder=encoder), REHEARSAL_SECONDS)


def data_for(config: PretrainConfig, context: Context) -> Path:
    """Return the dataset that was brought along if it fits the settings, or a synthetic one."""
    if context.features:
        brought = Path(context.features)
        try:
            select_utterances(config, [Dataset(brought)])
        except (ConfigError, InputError) as error:
            print(f"not {brought}: {error}")
        else:
            return brought
    # Training needs nothing of what prepares features, such as the kernel.
    from benchmarks.pretrain_data import prepare_for

    corpus = speech(context)
    identity = xxhash.xxh3_64_hexdigest(repr(features_of(config)).encode())
    data = Path(context.work) / f"features-{identity}"
    prepare_for(config, corpus, data, workers=os.cpu_count() or 1)
    return data


def speech(context: Context) -> Path:
    """Return the corpus of synthetic speech, which is written when it is first asked for."""
    from benchmarks.synthetic_speech import write_speech

    corpus = Path(context.work) / "LibriSpeech"
    if not corpus.exists():
        # A stage that was ended here has left its own.
        unfinished = Path(tempfile.mkdtemp(dir=context.work)) / "LibriSpeech"
        write_speech(unfinished, UTTERANCES_PER_SPEAKER[context.device])
        unfinished.rename(corpus)
    return corpus
