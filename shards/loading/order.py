"""Order, batches and padded lengths: pure functions of sizes, seeds and epoch, without IO."""

from collections.abc import Iterator

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.errors import require
from aalbert.shards.loading.config import OrderConfig

Rows = NDArray[np.int64]
Word = int | str


def permutation(size: int, *words: Word) -> Rows:
    """Return a permutation that depends on the words alone.

    It sorts the raw numbers of PCG64, which NumPy promises never to change, unlike the
    draws that are made of them.
    """
    seed = xxhash.xxh3_128_intdigest(repr(words).encode())
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")


def shuffled_window(entries: Rows, frames: Rows, config: OrderConfig, *words: Word) -> list[Rows]:
    """Return the batches of one window, an exact cover of `entries`, shuffled.

    `frames` gives the length of each entry.
    """
    order = permutation(len(entries), *words)
    if config.packed:
        return [entries[batch] for batch in cut(order, frames, config)]
    # Of few lengths a whole window fills batches; sorted further, it would not be shuffled.
    static = bool(config.static_lengths)
    pools = [order] if static else np.split(order, pool_ends(frames[order], config))
    ordered = [
        batch
        for number, pool in enumerate(pools)
        for batch in shuffled_pool(pool, frames, config, *words, number)
    ]
    return [entries[batch] for batch in ordered]


def sorted_window(entries: Rows, frames: Rows, config: OrderConfig) -> list[Rows]:
    """Return batches of utterances of like length, longest first: an exact cover of `entries`."""
    order = np.argsort(-frames, kind="stable")
    return [entries[batch] for batch in cut(order, frames, config)]


def pool_ends(frames: Rows, config: OrderConfig) -> Rows:
    """Return where to split a sequence into equal pools of about `pool_batches` batches."""
    if len(frames) == 0:
        return np.empty(0, np.int64)
    ends = np.cumsum(frames)
    pools = max(1, round(int(ends[-1]) / (config.frames_per_batch * config.pool_batches)))
    pool = (ends - 1) * pools // max(1, ends[-1])
    return np.flatnonzero(np.diff(pool)) + 1


def shuffled_pool(pool: Rows, frames: Rows, config: OrderConfig, *words: Word) -> list[Rows]:
    """Sort a pool by padded length, cut it into batches, and shuffle the batches."""
    by_length = pool[np.argsort(-padded_lengths(frames[pool], config), kind="stable")]
    batches = list(cut(by_length, frames, config))
    return [batches[index] for index in permutation(len(batches), *words)]


def cut(order: Rows, frames: Rows, config: OrderConfig) -> Iterator[Rows]:
    """Cut a sequence into batches that keep the frame budget.

    Unless they are packed, the sequence is sorted by falling length.
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
        end = start + utterances_of(int(padded[start]), config)
        yield order[start:end]
        start = end


def padded_lengths(frames: Rows, config: OrderConfig) -> Rows:
    """Return the length to which a batch is padded whose longest utterance has these frames."""
    if not config.static_lengths:
        return frames
    lengths = np.array(config.static_lengths, np.int64)
    return lengths[np.searchsorted(lengths, frames)]


def utterances_of(length: int, config: OrderConfig) -> int:
    """Return how many utterances of a padded length a batch holds."""
    return max(1, config.frames_per_batch // max(1, length))


def padded_shape(utterances: int, longest: int, config: OrderConfig) -> tuple[int, int]:
    """Return the utterances and frames that a padded batch of so many utterances has."""
    if not config.static_lengths:
        return utterances, longest
    length = int(padded_lengths(np.array([longest]), config)[0])
    return utterances_of(length, config), length


def cropped_lengths(frames: Rows, crop_frames: int | None) -> Rows:
    """Return how many frames of each utterance a batch takes."""
    return np.minimum(frames, crop_frames or np.iinfo(np.int64).max)


def share_out(batches: list[Rows], world_size: int) -> list[Rows] | None:
    """Halve the largest of fewer than `world_size` batches until every rank has one.

    Returns None when there are fewer utterances than ranks.
    """
    shared = list(batches)
    if sum(map(len, shared)) < world_size:
        return None
    while len(shared) < world_size:
        largest = max(range(len(shared)), key=lambda index: len(shared[index]))
        batch = shared[largest]
        shared[largest : largest + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return shared


def crop_start(
    key: str, frames: int, crop_frames: int, *, seed: int, epoch: int, copy: int = 0
) -> int:
    """Return the first frame of a random crop, drawn from (seed, epoch, key, copy) alone."""
    spare = max(0, frames - crop_frames)
    name = f"{seed}/{epoch}/{key}" + (f"/{copy}" if copy else "")
    return xxhash.xxh3_64_intdigest(name.encode()) % (spare + 1)


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


def choose_static_lengths(frames: Rows, count: int, multiple: int = 8) -> tuple[int, ...]:
    """Return up to `count` lengths, multiples of `multiple`, that take the least padding.

    The last one holds the longest utterance. The best partition of the sorted lengths is found
    by dynamic programming over the multiples, whatever the number of utterances.
    """
    require(count > 0, f"{count} lengths were asked for: give 1 or more")
    require(len(frames) > 0, "there is no utterance to choose lengths for")
    bins = -(-np.maximum(frames, 1) // multiple)
    ends, utterances = np.unique(bins, return_counts=True)
    before = np.concatenate([[0], np.cumsum(utterances)])
    # padded[i, j]: frames when the lengths number i to j are all padded to the j-th.
    padded = np.where(
        np.arange(len(ends))[:, None] <= np.arange(len(ends)),
        (before[1:] - before[:-1, None]) * ends,
        np.inf,
    )
    best, choices = padded[0], []
    for _ in range(min(count, len(ends)) - 1):
        # The last length holds what begins after the one before: best[i - 1] + padded[i, j].
        joined = np.concatenate([[np.inf], best[:-1]])[:, None] + padded
        begin = joined.argmin(axis=0)
        choices.append(begin)
        best = np.minimum(best, joined.min(axis=0))
    return tuple(int(ends[place]) * multiple for place in trace_back(choices, len(ends)))


def trace_back(choices: list[Rows], count: int) -> list[int]:
    """Follow the choices back: the places of the lengths, rising."""
    places = [count - 1]
    for begin in reversed(choices):
        if places[0] == 0:
            break
        places.insert(0, int(begin[places[0]]) - 1)
    return places
