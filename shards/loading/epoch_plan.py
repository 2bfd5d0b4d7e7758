"""The order of all epochs: which utterances make which batch, from any position on, for all ranks.

An entry is the number of an utterance among the selected ones, which are grouped by shard.
Where an epoch has utterances more than once, `entry + copy * utterances` is its copy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import xxhash

from aalbert.errors import require
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.order import (
    Rows,
    cropped_lengths,
    permutation,
    share_out,
    shuffled_window,
    sorted_window,
)
from aalbert.shards.loading.utterance_table import UtteranceTable


@dataclass(frozen=True)
class DatasetShare:
    """Entries of one dataset: how many there are, and how often an epoch has them.

    A weight of 2 takes each twice an epoch, 0.5 a half in each epoch, in turn.
    """

    entries: int
    weight: float = 1.0


@dataclass(frozen=True)
class Pieces:
    """Stretches of entries, each within one shard; `copy` counts how often it came before."""

    first: Rows
    count: Rows
    copy: Rows


@dataclass(frozen=True)
class Step:
    """The batches of all ranks at one step, each of entries.

    `windows` are those that the batches are from. `position` is that after the step: utterances
    since the beginning of epoch 0. `dropped` and
    `repeated` count the utterances at the end of an epoch that could not be shared out.
    """

    epoch: int
    windows: tuple[int, ...]
    batches: tuple[Rows, ...]
    position: int
    dropped: int = 0
    repeated: int = 0


class EpochPlan:
    """The order of all epochs: a pure function of its arguments.

    `frames` and `shards` give the length and the shard of each entry; entries of one shard
    lie side by side. `fingerprint` stands for the data. Windows are planned one at a time, so
    that going on from any position takes no longer than planning one of them.
    """

    def __init__(
        self,
        frames: Rows,
        shards: Rows,
        config: OrderConfig,
        *,
        seed: int = 0,
        fingerprint: str = "",
        shuffle: bool = True,
        shares: Sequence[DatasetShare] = (),
    ) -> None:
        self.frames = frames
        self.config = config
        self.shuffle = shuffle
        self.shares = tuple(shares) or (DatasetShare(len(frames)),)
        self._words = (fingerprint, seed)
        self._lengths = xxhash.xxh3_64_hexdigest(np.ascontiguousarray(frames).data)
        self._starts = np.flatnonzero(np.diff(shards, prepend=-1)).astype(np.int64)
        self._shards = shards[self._starts]
        self._counts = np.diff(self._starts, append=len(shards))
        require(
            shuffle or all(share.weight == 1 for share in self.shares),
            "an unshuffled epoch has every utterance once: leave the weights at 1",
        )
        for share in self.shares:
            require(share.weight > 0, f"a dataset has the weight {share.weight}: give one above 0")
        self.size = sum(round(share.weight * share.entries) for share in self.shares)
        self._windows = lru_cache(maxsize=2)(self._plan_windows)

    @property
    def identity(self) -> str:
        """Stands for the order: positions in plans of the same identity mean the same."""
        described = (self._words, self.config, self.shuffle, self.shares, self._lengths)
        return xxhash.xxh3_64_hexdigest(repr(described).encode())

    def require_enough(self, world_size: int) -> None:
        """Raise `ConfigError` when there are fewer utterances than ranks."""
        require(
            self.size >= world_size,
            f"{self.size} utterances give no batch for each of {world_size} processes: "
            "use fewer processes, or more data",
        )

    def count_steps(self, epoch: int, world_size: int) -> int:
        """Return the number of steps of an epoch."""
        return sum(1 for _ in self.rest_of_epoch(epoch * self.size, world_size))

    def steps(self, position: int, world_size: int) -> Iterator[Step]:
        """Yield the steps from a position on, epoch after epoch, without end.

        Raises `ConfigError` when there are fewer utterances than ranks.
        """
        self.require_enough(world_size)
        while True:
            end = (position // self.size + 1) * self.size
            yield from self.rest_of_epoch(position, world_size)
            position = end

    def rest_of_epoch(self, position: int, world_size: int) -> Iterator[Step]:
        """Yield the steps from a position to the end of its epoch."""
        epoch, taken = divmod(position, self.size)
        end = (epoch + 1) * self.size
        ready: Step | None = None
        group: list[Rows] = []
        windows: list[int] = []
        for window, batch in self._batches(epoch, taken):
            group.append(batch)
            windows.append(window)
            if len(group) == world_size:
                if ready:
                    yield ready
                position += sum(map(len, group))
                ready = Step(epoch, tuple(windows), tuple(group), position)
                group, windows = [], []
        left = sum(map(len, group))
        if shared := self._share(group, world_size):
            if ready:
                yield ready
            repeated = sum(map(len, shared)) - left
            last = (windows[-1],) * world_size
            ready = Step(epoch, last, tuple(shared), end, repeated=repeated)
            left = 0
        if ready:
            yield replace(ready, position=end, dropped=left)

    def window_shards(self, epoch: int, window: int) -> list[int]:
        """Return the shards that a window reads from; none past the end of the epoch."""
        windows = self._windows(epoch)
        if window >= len(windows):
            return []
        places = np.searchsorted(self._starts, windows[window].first, side="right") - 1
        return [int(shard) for shard in np.unique(self._shards[places])]

    def _share(self, batches: list[Rows], world_size: int) -> list[Rows] | None:
        """Give every rank a batch of what is left of an epoch; None when it is dropped."""
        if not batches:
            return None
        shared = share_out(batches, world_size)
        if shared is None and self.config.remainder == "repeat":
            left = np.concatenate(batches)
            shared = [left[[rank % len(left)]] for rank in range(world_size)]
        return shared

    def _batches(self, epoch: int, taken: int) -> Iterator[tuple[int, Rows]]:
        """Yield window and entries of the batches of an epoch after `taken` utterances."""
        windows = self._windows(epoch)
        ends = np.cumsum([int(window.count.sum()) for window in windows])
        first = int(np.searchsorted(ends, taken, side="right"))
        passed = taken - (int(ends[first - 1]) if first else 0)
        for number in range(first, len(windows)):
            for batch in self._window_batches(epoch, number):
                if passed < len(batch):
                    yield number, batch[passed:]
                passed = max(0, passed - len(batch))

    def _window_batches(self, epoch: int, number: int) -> list[Rows]:
        if not self.shuffle:
            return self._sorted
        window = self._windows(epoch)[number]
        entries = np.concatenate(
            [
                np.arange(first, first + count) + copy * len(self.frames)
                for first, count, copy in zip(window.first, window.count, window.copy, strict=True)
            ]
        )
        frames = self.frames[entries % len(self.frames)]
        return shuffled_window(entries, frames, self.config, *self._words, "window", epoch, number)

    @cached_property
    def _sorted(self) -> list[Rows]:
        entries = np.arange(len(self.frames))
        return sorted_window(entries, self.frames, self.config)

    def _plan_windows(self, epoch: int) -> list[Pieces]:
        """Shuffle the pieces of an epoch and cut them into windows."""
        pieces = self._pieces(epoch)
        if not self.shuffle:
            return [pieces] if len(self.frames) else []
        order = permutation(len(pieces.first), *self._words, "shards", epoch)
        width = self.config.window_shards
        return [
            Pieces(pieces.first[some], pieces.count[some], pieces.copy[some])
            for some in (order[at : at + width] for at in range(0, len(order), width))
        ]

    def _pieces(self, epoch: int) -> Pieces:
        """Return what an epoch takes of every shard, for all datasets one after another."""
        found: list[Pieces] = []
        begin = 0
        for number, share in enumerate(self.shares):
            end = begin + share.entries
            own = slice(*np.searchsorted(self._starts, [begin, end]))
            shards = Pieces(self._starts[own], self._counts[own], np.zeros_like(self._starts[own]))
            whole = int(share.weight)
            found += [replace(shards, copy=shards.copy + copy) for copy in range(whole)]
            take = round(share.weight * share.entries) - whole * share.entries
            if take:
                order = permutation(len(shards.first), *self._words, "part", number)
                found.append(turn(shards, order, epoch * take % share.entries, take, whole))
            begin = end
        return Pieces(
            np.concatenate([pieces.first for pieces in found]),
            np.concatenate([pieces.count for pieces in found]),
            np.concatenate([pieces.copy for pieces in found]),
        )


def make_plan(table: UtteranceTable, config: LoaderConfig) -> EpochPlan:
    """Return the order in which a loader takes the utterances of a table.

    Raises `ConfigError` when the longest does not fit the static lengths.
    """
    frames, lengths = cropped_lengths(table.frames, config.crop_frames), config.order.static_lengths
    longest = int(frames.max(initial=0))
    require(
        not lengths or longest <= lengths[-1],
        f"static_lengths end at {lengths[-1] if lengths else 0} frames, the longest utterance "
        f"has {longest}: add a length, or set crop_frames",
    )
    return EpochPlan(
        frames,
        table.shards,
        config.order,
        seed=config.seed,
        fingerprint="+".join(some.dataset.manifest.fingerprint for some in table.selections),
        shuffle=config.shuffle,
        shares=[DatasetShare(len(some.rows), some.weight) for some in table.selections],
    )


def turn(shards: Pieces, order: Rows, begin: int, take: int, copy: int) -> Pieces:
    """Return `take` entries from the `begin`-th on, going round through shards in some order."""
    first, count = shards.first[order], shards.count[order]
    ends = np.cumsum(count)
    total = int(ends[-1])
    stretches = [(begin, min(begin + take, total)), (0, max(0, begin + take - total))]
    found: list[tuple[Rows, Rows]] = []
    for low, high in stretches:
        starts = np.maximum(ends - count, low)
        counts = np.minimum(ends, high) - starts
        kept = counts > 0
        found.append(((first + starts - (ends - count))[kept], counts[kept]))
    firsts = np.concatenate([part[0] for part in found])
    return Pieces(firsts, np.concatenate([part[1] for part in found]), np.full_like(firsts, copy))
