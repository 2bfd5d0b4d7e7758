"""The batches of a downstream run: of stored features, or of cached states."""

import numpy as np

from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Selection
from aalbert.train.downstream.build import DownstreamSetup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.scoring import whole_utterances
from aalbert.train.downstream.state_cache import CachedLoader, StateCache
from aalbert.train.loop.ranks import Ranks


def make_loader(
    config: DownstreamConfig, setup: DownstreamSetup, rows: Rows, cache: StateCache | None
) -> Loader:
    """Return a loader of whole utterances: of stored features, or of cached states."""
    plain = whole_utterances(setup.inputs, rows, config.batch_seconds, config.prefetch)
    return plain if cache is None else CachedLoader(plain.selections, plain.config, cache)


def training_loader(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None, ranks: Ranks
) -> Loader:
    """Return the shuffled loader of the training part for this rank.

    Utterances are cropped at random, or whole when cached.
    """
    shift_ms = setup.inputs.stored.frame_shift_ms
    crop_seconds = config.crop_seconds if cache is None else 0
    crop_frames = round(crop_seconds * 1000 / shift_ms) or None
    frames = setup.dataset.frames(setup.inputs.feature)[setup.splits.train]
    frames_per_batch = round(config.batch_seconds * 1000 / shift_ms)
    if config.least_epoch_steps:
        # Of small data a batch is small, so that an epoch still has steps to learn in.
        epoch_frames = int(np.minimum(frames, crop_frames or frames).sum())
        batches = config.least_epoch_steps * config.batches_per_step
        frames_per_batch = max(1, min(frames_per_batch, epoch_frames // batches))
    settings = LoaderConfig(
        order=OrderConfig(frames_per_batch=frames_per_batch),
        feature=setup.inputs.feature,
        crop_frames=crop_frames,
        prefetch=config.prefetch,
        seed=config.seed,
    )
    share = {
        "rank": ranks.rank,
        "world_size": ranks.size,
        "batches_per_step": config.batches_per_step,
    }
    if cache is None:
        return setup.inputs.loader(setup.splits.train, settings, **share)
    return CachedLoader(Selection(setup.dataset, setup.splits.train), settings, cache, **share)
