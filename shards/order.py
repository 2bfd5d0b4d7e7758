"""The order of an epoch as pure functions of sizes, seed and epoch. No IO, nothing global."""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """How utterances become batches.

    A batch holds at most `frames_per_batch` frames, padding included (or one longer
    utterance). Utterances are shuffled within windows of `window_shards` shards, and
    pools of `pool_batches` batches are sorted by length before they are cut.
    """

    frames_per_batch: int
    window_shards: int = 16
    pool_batches: int = 50


def shuffled_batches(
    rows: Rows, frames: Rows, shards: Rows, config: OrderConfig, *, seed: int, epoch: int
) -> list[Rows]:
    """Return the batches of one epoch: an exact cover of `rows`, shuffled.

    `frames` and `shards` give the length and the shard of each entry of `rows`.
    """
    generator = np.random.default_rng([seed, epoch])
    return [
        rows[batch]
        for window in shuffled_windows(shards, config.window_shards, generator)
        for pool in np.split(window, pool_ends(frames[window], config))
        for batch in shuffled_pool(pool, frames, config, generator)
    ]


def sorted_batches(rows: Rows, frames: Rows, frames_per_batch: int) -> list[Rows]:
    """Return batches of utterances of like length, longest first: an exact cover of `rows`."""
    order = np.argsort(-frames, kind="stable")
    return [rows[batch] for batch in cut(order, frames, frames_per_batch)]


def shuffled_windows(
    shards: Rows, window_shards: int, generator: np.random.Generator
) -> list[Rows]:
    """Return a permutation of positions, cut into windows of `window_shards` shards each.

    Shards are shuffled, then utterances within each window: reading stays local to a
    window, which is what a cache of shards needs.
    """
    if len(shards) == 0:
        return []
    _, shard_of_position = np.unique(shards, return_inverse=True)
    place_of_shard = generator.permutation(shard_of_position.max() + 1)
    window = place_of_shard[shard_of_position] // window_shards
    order = np.lexsort((generator.random(len(shards)), window)).astype(np.int64)
    return np.split(order, np.flatnonzero(np.diff(window[order])) + 1)


def pool_ends(frames: Rows, config: OrderConfig) -> Rows:
    """Return where to split a sequence into equal pools of about `pool_batches` batches."""
    ends = np.cumsum(frames)
    pools = max(1, round(int(ends[-1]) / (config.frames_per_batch * config.pool_batches)))
    pool = (ends - 1) * pools // ends[-1]
    return np.flatnonzero(np.diff(pool)) + 1


def shuffled_pool(
    pool: Rows, frames: Rows, config: OrderConfig, generator: np.random.Generator
) -> list[Rows]:
    """Sort a pool by length, cut it into batches, and shuffle the batches."""
    by_length = pool[np.argsort(-frames[pool], kind="stable")]
    batches = cut(by_length, frames, config.frames_per_batch)
    return [batches[index] for index in generator.permutation(len(batches))]


def cut(order: Rows, frames: Rows, frames_per_batch: int) -> list[Rows]:
    """Cut a sequence sorted by falling length so that each padded batch keeps the budget."""
    batches = []
    start = 0
    while start < len(order):
        size = max(1, frames_per_batch // max(1, int(frames[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def deal(batches: list[Rows], rank: int, world_size: int) -> list[Rows]:
    """Return the batches of one rank; every rank gets the same number.

    At most `world_size - 1` batches at the end of the epoch are left out.
    """
    count = len(batches) // world_size * world_size
    return batches[rank:count:world_size]


def crop_start(key: str, frames: int, crop_frames: int, *, seed: int, epoch: int) -> int:
    """Return the first frame of a random crop, drawn from (seed, epoch, key) alone."""
    spare = max(0, frames - crop_frames)
    digest = xxhash.xxh3_64_intdigest(f"{seed}/{epoch}/{key}".encode())
    return digest % (spare + 1)


def held_out(keys: list[str], proportion: float, *, seed: int) -> NDArray[np.bool_]:
    """Say of every key whether it belongs to the held-out part.

    The choice is drawn from (seed, key), so that it is the same in every order and
    does not change for old keys when new ones join. Where no draw is small enough, the
    smallest one is held out, so that the part is never empty.
    """
    draws = np.array(
        [xxhash.xxh3_64_intdigest(f"held-out/{seed}/{key}".encode()) for key in keys], np.uint64
    )
    chosen = draws < np.uint64(proportion * 2**64)
    chosen[np.argmin(draws)] = True
    return chosen
