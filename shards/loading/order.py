"""Order, batches and padded lengths: pure functions of sizes, seeds and epoch, without I/O."""

from collections.abc import Iterator

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.errors import require
from aalbert.shards.loading.config import OrderConfig

Rows = NDArray[np.int64]
Seed = int | str


def permutation(size: int, *seeds: Seed) -> Rows:
    """Return a permutation that depends on the seeds alone.

    It sorts the raw numbers of PCG64, which NumPy promises never to change, unlike the
    distributions drawn from them.
    """
    seed = xxhash.xxh3_128_intdigest(repr(seeds).encode())
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")


def shuffle_window(entries: Rows, frames: Rows, config: OrderConfig, *seeds: Seed) -> list[Rows]:
    """Return the shuffled batches of one window, which contain each of `entries` exactly once.

    `frames` is the length of each entry.
    """
    order = permutation(len(entries), *seeds)
    if config.packed:
        return [entries[batch] for batch in cut(order, frames, config)]
    # With few lengths a whole window is one pool: there are enough utterances of each length.
    static = bool(config.static_lengths)
    pools = [order] if static else np.split(order, pool_ends(frames[order], config))
    ordered = [
        batch
        for number, pool in enumerate(pools)
        for batch in shuffle_pool(pool, frames, config, *seeds, number)
    ]
    return [entries[batch] for batch in ordered]


def sort_window(entries: Rows, frames: Rows, config: OrderConfig) -> list[Rows]:
    """Return batches sorted by length, longest first; they contain each of `entries` once."""
    order = np.argsort(-frames, kind="stable")
    return [entries[batch] for batch in cut(order, frames, config)]


def pool_ends(frames: Rows, config: OrderConfig) -> Rows:
    """Return the indexes that split a sequence into equal pools of about `pool_batches` batches."""
    if len(frames) == 0:
        return np.empty(0, np.int64)
    ends = np.cumsum(frames)
    pools = max(1, round(int(ends[-1]) / (config.frames_per_batch * config.pool_batches)))
    pool = (ends - 1) * pools // max(1, ends[-1])
    return np.flatnonzero(np.diff(pool)) + 1


def shuffle_pool(pool: Rows, frames: Rows, config: OrderConfig, *seeds: Seed) -> list[Rows]:
    """Sort a pool by padded length, cut it into batches, and shuffle the batches."""
    by_length = pool[np.argsort(-padded_lengths(frames[pool], config), kind="stable")]
    batches = list(cut(by_length, frames, config))
    return [batches[index] for index in permutation(len(batches), *seeds)]


def cut(order: Rows, frames: Rows, config: OrderConfig) -> Iterator[Rows]:
    """Cut a sequence into batches within the frame budget.

    Unless batches are packed, the sequence must be sorted by descending length.
    """
    lengths = frames[order]
    start = 0
    if config.packed:
        ends = np.cumsum(lengths)
        while start < len(order):
            before = int(ends[start]) - int(lengths[start])
            end = int(np.searchsorted(ends, before + config.frames_per_batch, side="right"))
            yield order[start : max(start + 1, end)]
            start = max(start + 1, end)
        return
    padded = padded_lengths(lengths, config)
    while start < len(order):
        end = start + utterances_per_batch(int(padded[start]), config)
        yield order[start:end]
        start = end


def padded_lengths(frames: Rows, config: OrderConfig) -> Rows:
    """Return the padded length of a batch whose longest utterance has this number of frames."""
    if not config.static_lengths:
        return frames
    lengths = np.array(config.static_lengths, np.int64)
    return lengths[np.searchsorted(lengths, frames)]


def utterances_per_batch(length: int, config: OrderConfig) -> int:
    """Return the number of utterances of a padded length in a full batch."""
    return max(1, config.frames_per_batch // max(1, length))


def padded_shape(utterances: int, longest: int, config: OrderConfig) -> tuple[int, int]:
    """Return the numbers of utterances and frames of a padded batch."""
    if not config.static_lengths:
        return utterances, longest
    length = int(padded_lengths(np.array([longest]), config)[0])
    return utterances_per_batch(length, config), length


def divide_batches(batches: list[Rows], count: int) -> list[Rows] | None:
    """Halve the largest of fewer than `count` batches until there are as many.

    Returns None when there are fewer utterances.
    """
    divided = list(batches)
    if sum(map(len, divided)) < count:
        return None
    while len(divided) < count:
        largest = max(range(len(divided)), key=lambda index: len(divided[index]))
        batch = divided[largest]
        divided[largest : largest + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return divided


def crop_start(
    key: str, frames: int, crop_frames: int, *, seed: int, epoch: int, copy: int = 0
) -> int:
    """Return the first frame of a random crop, drawn from (seed, epoch, key, copy) alone."""
    spare = max(0, frames - crop_frames)
    name = f"{seed}/{epoch}/{key}" + (f"/{copy}" if copy else "")
    return xxhash.xxh3_64_intdigest(name.encode()) % (spare + 1)


def held_out(keys: list[str], proportion: float, *, seed: int) -> NDArray[np.bool_]:
    """Return for each key whether it belongs to the held-out part.

    The choice is drawn from (seed, key), so it does not depend on the order of keys and does not
    change for old keys when new ones are added. If no draw is small enough, the smallest one is
    held out, so the part is never empty.
    """
    draws = np.array(
        [xxhash.xxh3_64_intdigest(f"held-out/{seed}/{key}".encode()) for key in keys], np.uint64
    )
    chosen = draws < np.uint64(proportion * 2**64)
    chosen[np.argmin(draws)] = True
    return chosen


def choose_static_lengths(frames: Rows, count: int, multiple: int = 8) -> tuple[int, ...]:
    """Return up to `count` lengths, multiples of `multiple`, that need the least padding.

    The last one fits the longest utterance. The best partition of the sorted lengths is found
    by dynamic programming over the multiples, so the time hardly depends on the number of
    utterances.
    """
    require(count > 0, f"{count} lengths were asked for: give 1 or more")
    require(len(frames) > 0, "there is no utterance to choose lengths for")
    bins = -(-np.maximum(frames, 1) // multiple)
    ends, utterances = np.unique(bins, return_counts=True)
    before = np.concatenate([[0], np.cumsum(utterances)])
    # padded[i, j]: the frames when lengths i to j are all padded to length j.
    padded = np.where(
        np.arange(len(ends))[:, None] <= np.arange(len(ends)),
        (before[1:] - before[:-1, None]) * ends,
        np.inf,
    )
    best, choices = padded[0], []
    for _ in range(min(count, len(ends)) - 1):
        # One more length, for what begins after the one before: best[i - 1] + padded[i, j].
        joined = np.concatenate([[np.inf], best[:-1]])[:, None] + padded
        begin = joined.argmin(axis=0)
        choices.append(begin)
        best = np.minimum(best, joined.min(axis=0))
    # Trace the choices back from the longest length.
    chosen = [len(ends) - 1]
    for begin in reversed(choices):
        if chosen[0] == 0:
            break
        chosen.insert(0, int(begin[chosen[0]]) - 1)
    return tuple(int(ends[index]) * multiple for index in chosen)
