"""The lengths to which utterances are padded when a compiled model is to see few shapes."""

import numpy as np

from aalbert.errors import require
from aalbert.shards.loading.order import Rows


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
    return tuple(int(ends[place]) * multiple for place in places_of(choices, len(ends)))


def places_of(choices: list[Rows], count: int) -> list[int]:
    """Follow the choices back: the places of the lengths, rising."""
    places = [count - 1]
    for begin in reversed(choices):
        if places[0] == 0:
            break
        places.insert(0, int(begin[places[0]]) - 1)
    return places
