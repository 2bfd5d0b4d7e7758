"""The order of all epochs: the utterances of each batch, from any position on, for all ranks.

An entry is the number of an utterance among the selected ones, which are grouped by shard.
If an epoch contains an utterance more than once, its copies are `entry + copy * utterances`.
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
    divide_batches,
    permutation,
    shuffle_window,
    sort_window,
)
from aalbert.shards.loading.utterance_table import UtteranceTable


@dataclass(frozen=True)
class DatasetShare:
    """The number of entries of one dataset, and its weight.

    A weight of 2 takes each entry twice in an epoch, 0.5 half of them, the halves in turn.
    """

    entries: int
    weight: float = 1.0


@dataclass(frozen=True)
class Ranges:
    """Ranges of entries, each within one shard; `copy` is its number among equal ranges."""

    first: Rows
    count: Rows
    copy: Rows


@dataclass(frozen=True)
class Step:
    """The batches of entries of all ranks at one step.

    `windows` are the windows of the batches. `position` is the position after the step, in
    utterances since the beginning of epoch 0. `dropped` and `repeated` count utterances at the
    end of an epoch that cannot be divided among the batches.
    """

    epoch: int
    windows: tuple[int, ...]
    batches: tuple[Rows, ...]
    position: int
    dropped: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class OwnBatch:
    """A batch of entries of one rank, of a `window` of an epoch.

    `position`, `dropped` and `repeated` are those of its step with the last batch that the rank has
    in it; with those before it, `position` is that before the step.
    """

    epoch: int
    window: int
    entries: Rows
    position: int
    dropped: int = 0
    repeated: int = 0


class EpochPlan:
    """The order of all epochs: a pure function of its arguments.

    `frames` and `shards` are the length and the shard of each entry; entries of one shard are
    adjacent. `fingerprint` identifies the data. Windows are planned one at a time, so resuming
    at any position takes no longer than planning one of them.
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
        self._seeds = (fingerprint, seed)
        self._frames_digest = xxhash.xxh3_64_hexdigest(np.ascontiguousarray(frames).data)
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
        """Hash of the order: a position has the same meaning in all plans with this identity."""
        described = (self._seeds, self.config, self.shuffle, self.shares, self._frames_digest)
        return xxhash.xxh3_64_hexdigest(repr(described).encode())

    def require_enough(self, batches_per_step: int) -> None:
        """Raise `ConfigError` when there are fewer utterances than batches in a step."""
        require(
            self.size >= batches_per_step,
            f"{self.size} utterances give no step of {batches_per_step} batches: use fewer "
            "processes, fewer batches a step, or more data",
        )

    def count_steps(self, epoch: int, batches_per_step: int) -> int:
        """Return the number of steps of an epoch."""
        return sum(1 for _ in self.rest_of_epoch(epoch * self.size, batches_per_step))

    def own_batches(
        self, position: int, batches_per_step: int, own: Sequence[int]
    ) -> Iterator[OwnBatch]:
        """Yield the batches of one rank, those of the numbers `own` of every step, endlessly.

        Raises `ConfigError` when there are fewer utterances than batches in a step.
        """
        for step in self.steps(position, batches_per_step):
            for number in own[:-1]:
                yield OwnBatch(step.epoch, step.windows[number], step.batches[number], position)
            position, last = step.position, own[-1]
            yield OwnBatch(
                step.epoch,
                step.windows[last],
                step.batches[last],
                position,
                step.dropped,
                step.repeated,
            )

    def steps(self, position: int, batches_per_step: int) -> Iterator[Step]:
        """Yield the steps from a position on, through all epochs, endlessly.

        Raises `ConfigError` when there are fewer utterances than batches in a step.
        """
        self.require_enough(batches_per_step)
        while True:
            end = (position // self.size + 1) * self.size
            yield from self.rest_of_epoch(position, batches_per_step)
            position = end

    def rest_of_epoch(self, position: int, batches_per_step: int) -> Iterator[Step]:
        """Yield the steps from a position to the end of its epoch."""
        epoch, taken = divmod(position, self.size)
        end = (epoch + 1) * self.size
        ready: Step | None = None
        group: list[Rows] = []
        windows: list[int] = []
        for window, batch in self._batches(epoch, taken):
            group.append(batch)
            windows.append(window)
            if len(group) == batches_per_step:
                if ready:
                    yield ready
                position += sum(map(len, group))
                ready = Step(epoch, tuple(windows), tuple(group), position)
                group, windows = [], []
        left = sum(map(len, group))
        if divided := self._divide(group, batches_per_step):
            if ready:
                yield ready
            repeated = sum(map(len, divided)) - left
            last = (windows[-1],) * batches_per_step
            ready = Step(epoch, last, tuple(divided), end, repeated=repeated)
            left = 0
        if ready:
            yield replace(ready, position=end, dropped=left)

    def window_shards(self, epoch: int, window: int) -> list[int]:
        """Return the shards of a window; an empty list past the end of the epoch."""
        windows = self._windows(epoch)
        if window >= len(windows):
            return []
        indexes = np.searchsorted(self._starts, windows[window].first, side="right") - 1
        return [int(shard) for shard in np.unique(self._shards[indexes])]

    def _divide(self, batches: list[Rows], batches_per_step: int) -> list[Rows] | None:
        """Divide the last batches of an epoch into a step; None when they are dropped."""
        if not batches:
            return None
        divided = divide_batches(batches, batches_per_step)
        if divided is None and self.config.remainder == "repeat":
            left = np.concatenate(batches)
            divided = [left[[number % len(left)]] for number in range(batches_per_step)]
        return divided

    def _batches(self, epoch: int, taken: int) -> Iterator[tuple[int, Rows]]:
        """Yield window and entries of the batches of an epoch after `taken` utterances."""
        windows = self._windows(epoch)
        ends = np.cumsum([int(window.count.sum()) for window in windows])
        first = int(np.searchsorted(ends, taken, side="right"))
        skip = taken - (int(ends[first - 1]) if first else 0)
        for number in range(first, len(windows)):
            for batch in self._window_batches(epoch, number):
                if skip < len(batch):
                    yield number, batch[skip:]
                skip = max(0, skip - len(batch))

    def _window_batches(self, epoch: int, number: int) -> list[Rows]:
        """Return the batches of a window, each of entries."""
        if not self.shuffle:
            return self._sorted_batches
        window = self._windows(epoch)[number]
        entries = np.concatenate(
            [
                np.arange(first, first + count) + copy * len(self.frames)
                for first, count, copy in zip(window.first, window.count, window.copy, strict=True)
            ]
        )
        frames = self.frames[entries % len(self.frames)]
        return shuffle_window(entries, frames, self.config, *self._seeds, "window", epoch, number)

    @cached_property
    def _sorted_batches(self) -> list[Rows]:
        """The batches of an unshuffled epoch: utterances of similar length, longest first."""
        return sort_window(np.arange(len(self.frames)), self.frames, self.config)

    def _plan_windows(self, epoch: int) -> list[Ranges]:
        """Shuffle the ranges of an epoch and cut them into windows."""
        ranges = self._ranges(epoch)
        if not self.shuffle:
            return [ranges] if len(self.frames) else []
        order = permutation(len(ranges.first), *self._seeds, "shards", epoch)
        width = self.config.window_shards
        return [
            Ranges(ranges.first[window], ranges.count[window], ranges.copy[window])
            for window in (order[start : start + width] for start in range(0, len(order), width))
        ]

    def _ranges(self, epoch: int) -> Ranges:
        """Return the ranges of entries that an epoch takes, for all datasets in order."""
        found: list[Ranges] = []
        begin = 0
        for number, share in enumerate(self.shares):
            end = begin + share.entries
            own = slice(*np.searchsorted(self._starts, [begin, end]))
            shards = Ranges(self._starts[own], self._counts[own], np.zeros_like(self._starts[own]))
            whole = int(share.weight)
            found += [replace(shards, copy=shards.copy + copy) for copy in range(whole)]
            take = round(share.weight * share.entries) - whole * share.entries
            if take:
                order = permutation(len(shards.first), *self._seeds, "part", number)
                found.append(take_cyclic(shards, order, epoch * take % share.entries, take, whole))
            begin = end
        return Ranges(
            np.concatenate([ranges.first for ranges in found]),
            np.concatenate([ranges.count for ranges in found]),
            np.concatenate([ranges.copy for ranges in found]),
        )


def make_plan(table: UtteranceTable, config: LoaderConfig) -> EpochPlan:
    """Return the order in which a loader takes the utterances of a table.

    Raises `ConfigError` when the longest utterance exceeds the static lengths.
    """
    frames, lengths = table.frames, config.order.static_lengths
    if config.crop_frames:
        frames = np.minimum(frames, config.crop_frames)
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
        fingerprint="+".join(
            selection.dataset.manifest.fingerprint for selection in table.selections
        ),
        shuffle=config.shuffle,
        shares=[
            DatasetShare(len(selection.rows), selection.weight) for selection in table.selections
        ],
    )


def take_cyclic(shards: Ranges, order: Rows, begin: int, take: int, copy: int) -> Ranges:
    """Return `take` entries of the shards in this order, from the `begin`-th on, cyclically."""
    first, count = shards.first[order], shards.count[order]
    ends = np.cumsum(count)
    total = int(ends[-1])
    found: list[tuple[Rows, Rows]] = []
    for low, high in [(begin, min(begin + take, total)), (0, max(0, begin + take - total))]:
        starts = np.maximum(ends - count, low)
        counts = np.minimum(ends, high) - starts
        kept = counts > 0
        found.append(((first + starts - (ends - count))[kept], counts[kept]))
    firsts = np.concatenate([part[0] for part in found])
    return Ranges(firsts, np.concatenate([part[1] for part in found]), np.full_like(firsts, copy))
