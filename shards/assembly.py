"""Batches as arrays: which utterances, how large, and their features copied together.

No PyTorch here: the process that reads ahead starts faster without it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.errors import require
from aalbert.shards.dataset import Dataset, Selection
from aalbert.shards.maps import ShardMaps
from aalbert.shards.mismatch import require_same_feature
from aalbert.shards.order import OrderConfig, Rows, crop_start, padded_lengths, padded_shape
from aalbert.shards.plan import Part, Plan, Step

Verification = Literal["always", "first-epoch", "never"]

# Rows of a batch of static shape that hold no utterance.
NO_ROW = -1
ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Which feature is read, how long a crop of it, in which order, and how far ahead.

    `crop_frames` of None takes whole utterances. `shuffle` of False takes every utterance once,
    sorted by length, the same in every epoch. `verify` says when the bytes that are read are
    compared with their checksums: `always`, in the `first-epoch` that a process reads, or `never`.
    `readers` processes read ahead of the training loop, up to `prefetch` batches each; with a
    `prefetch` of 0 batches are read when they are asked for.
    """

    order: OrderConfig
    feature: str = "logmel"
    crop_frames: int | None = None
    shuffle: bool = True
    seed: int = 0
    verify: Verification = "first-epoch"
    prefetch: int = 4
    readers: int = 1

    def __post_init__(self) -> None:
        """Refuse settings with which nothing could be read."""
        require(
            self.crop_frames is None or self.crop_frames > 0,
            f"crop_frames is {self.crop_frames}: give a number above 0",
        )
        require(self.prefetch >= 0, f"prefetch is {self.prefetch}: give 0 or more")
        require(self.readers > 0, f"readers is {self.readers}: give 1 or more")


class BatchArrays(NamedTuple):
    """The arrays of a batch: features (padded or packed), lengths and rows `(utterances,)`."""

    features: NDArray[np.float16]
    lengths: Rows
    rows: Rows


class BatchShape(NamedTuple):
    """The sizes of a batch: `frames` counts those of each utterance, or, packed, of all."""

    utterances: int
    frames: int
    dims: int
    packed: bool

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features, up to the next array."""
        numbers = self.frames * self.dims * (1 if self.packed else self.utterances)
        return math.ceil(2 * numbers / ALIGNMENT) * ALIGNMENT

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return self.feature_bytes + 2 * 8 * self.utterances

    def arrays(self, buffer: NDArray[np.uint8]) -> BatchArrays:
        """Return the arrays as views into a buffer."""
        shape = (self.frames, self.dims) if self.packed else self[:3]
        numbers = buffer[: 2 * math.prod(shape)].view(np.float16).reshape(shape)
        integers = buffer[self.feature_bytes : self.bytes].view(np.int64)
        return BatchArrays(numbers, integers[: self.utterances], integers[self.utterances :])


class Assembler:
    """Copies the features of utterances into batches.

    An entry is the number of a selected utterance (see `plan`); its row counts through the
    datasets one after another. `reading` holds the entry that is being read, for whoever has to
    say what a reader died of.
    """

    def __init__(self, selections: Sequence[Selection], config: LoaderConfig) -> None:
        require(bool(selections), "a loader needs a dataset")
        require_same_feature(selections, config.feature)
        self.config = config
        self.dims = selections[0].dataset.manifest.features[config.feature].dims
        self.utterances = sum(len(some.rows) for some in selections)
        self.reading = np.zeros(1, np.int64)
        self._entered: tuple[int, int] | None = None
        self._selections = selections
        self._stored_frames = self._gather(lambda data: data.frames(config.feature))
        self.frames = np.minimum(self._stored_frames, config.crop_frames or np.iinfo(np.int64).max)
        self._check_static_lengths()

    @cached_property
    def plan(self) -> Plan:
        """The order of all epochs."""
        return Plan(
            self.frames,
            self._shards,
            self.config.order,
            seed=self.config.seed,
            fingerprint="+".join(some.dataset.manifest.fingerprint for some in self._selections),
            shuffle=self.config.shuffle,
            parts=[Part(len(some.rows), some.weight) for some in self._selections],
        )

    def shape(self, entries: Rows) -> BatchShape:
        """Return the sizes of the batch of these entries."""
        frames = self.frames[entries % self.utterances]
        if self.config.order.packed:
            return BatchShape(len(entries), int(frames.sum()), self.dims, packed=True)
        return BatchShape(*padded_shape(frames, self.config.order), self.dims, packed=False)

    def most_bytes(self) -> int:
        """Return how many bytes a batch can take at most."""
        order = self.config.order
        longest = int(padded_lengths(self.frames.max(keepdims=True), order)[0])
        frames = max(order.frames_per_batch, longest)
        shortest = max(1, int(padded_lengths(self.frames.min(keepdims=True), order)[0]))
        return BatchShape(frames // shortest, frames, self.dims, packed=True).bytes

    def enter(self, step: Step, rank: int) -> None:
        """Hold the shards of a step's window, let go of others, and fetch the next ones ahead.

        Shards that lie on this machine are left alone.
        """
        window = step.windows[rank]
        if self._maps.remote and (step.epoch, window) != self._entered:
            self._entered = (step.epoch, window)
            following = (step.epoch, window + 1)
            self._maps.enter(
                self.plan.window_shards(step.epoch, window),
                self.plan.window_shards(*following) or self.plan.window_shards(step.epoch + 1, 0),
            )

    def fill(self, entries: Rows, epoch: int, arrays: BatchArrays) -> None:
        """Write the batch of these entries, zeros past the end of each utterance.

        Raises `IntegrityError`, naming shard and key, when bytes are not those that were written.
        """
        own = entries % self.utterances
        packed, row_bytes = self.config.order.packed, 2 * self.dims
        arrays.lengths[: len(own)] = self.frames[own]
        arrays.lengths[len(own) :] = 0
        arrays.rows[: len(own)] = self._rows[own]
        arrays.rows[len(own) :] = NO_ROW
        bytes_out = arrays.features.reshape(-1).view(np.uint8)
        width = arrays.features.shape[-2] * row_bytes
        place = 0
        for number, payload in enumerate(self._payloads(entries, own, epoch)):
            end = place + len(payload)
            bytes_out[place:end] = payload
            place = end if packed else (number + 1) * width
            bytes_out[end:place] = 0
        bytes_out[place:] = 0

    def _payloads(self, entries: Rows, own: Rows, epoch: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the bytes of the utterances' features, or of the crops of them."""
        check = self.config.verify == "always" or not self._checked[own].all()
        sizes = self._stored_frames[own] * (2 * self.dims)
        places = zip(
            *(self._shards[own].tolist(), self._offsets[own].tolist(), sizes.tolist()),
            *(self._hashes[own].tolist(), entries.tolist()),
            strict=True,
        )
        for shard, start, size, written, entry in places:
            self.reading[0] = entry
            payload = self._maps[shard][start : start + size]
            if check and xxhash.xxh3_64_intdigest(payload.data) != written:
                self._refuse(entry % self.utterances)
            yield self._crop(payload, entry, epoch)
        self._checked[own] = True

    def _crop(self, payload: NDArray[np.uint8], entry: int, epoch: int) -> NDArray[np.uint8]:
        """Return the part of an utterance that this epoch, and copy, takes of it."""
        row_bytes = 2 * self.dims
        crop_frames, frames = self.config.crop_frames, len(payload) // row_bytes
        if crop_frames is None or frames <= crop_frames:
            return payload
        copy, own = divmod(entry, self.utterances)
        epoch = epoch if self.config.shuffle else 0
        seed = self.config.seed
        start = crop_start(self._key(own), frames, crop_frames, seed=seed, epoch=epoch, copy=copy)
        return payload[start * row_bytes : (start + crop_frames) * row_bytes]

    def _gather(self, values: Callable[[Dataset], NDArray[Any]]) -> NDArray[Any]:
        """Return a number of every entry, taken from the rows of the datasets."""
        return np.concatenate([values(some.dataset)[some.rows] for some in self._selections])

    @cached_property
    def _rows(self) -> Rows:
        first = np.cumsum([0, *(len(some.dataset) for some in self._selections)])
        pairs = zip(self._selections, first.tolist(), strict=False)
        return np.concatenate([some.rows + number for some, number in pairs])

    @cached_property
    def _shards(self) -> Rows:
        first = np.cumsum([0, *(len(some.dataset.shard_paths) for some in self._selections)])
        pairs = zip(self._selections, first.tolist(), strict=False)
        return np.concatenate([some.dataset.shards()[some.rows] + number for some, number in pairs])

    @cached_property
    def _offsets(self) -> Rows:
        return self._gather(lambda data: data.places(self.config.feature).offset)

    @cached_property
    def _hashes(self) -> NDArray[np.uint64]:
        return self._gather(lambda data: data.places(self.config.feature).xxh3)

    @cached_property
    def _checked(self) -> NDArray[np.bool_]:
        """The entries whose checksums need not be compared (again)."""
        return np.full(self.utterances, self.config.verify == "never")

    @cached_property
    def _maps(self) -> ShardMaps:
        return ShardMaps([some.dataset for some in self._selections])

    def describe(self, entry: int) -> str:
        """Return shard and key of an entry, for messages."""
        some, number = self._place(entry % self.utterances)
        row = int(some.rows[number])
        return f"{some.dataset.shard_name(row)}, utterance '{some.dataset.key(row)}'"

    def _check_static_lengths(self) -> None:
        lengths = self.config.order.static_lengths
        longest = int(self.frames.max(initial=0))
        require(
            not lengths or longest <= lengths[-1],
            f"static_lengths end at {lengths[-1] if lengths else 0} frames, the longest utterance "
            f"has {longest}: add a length, or set crop_frames",
        )

    def _key(self, own: int) -> str:
        selection, number = self._place(own)
        return selection.dataset.key(int(selection.rows[number]))

    def _place(self, own: int) -> tuple[Selection, int]:
        """Return the selection of an entry, and its number there."""
        for some in self._selections:
            if own < len(some.rows):
                return some, own
            own -= len(some.rows)
        raise IndexError(own)

    def _refuse(self, own: int) -> None:
        selection, number = self._place(own)
        selection.dataset.refuse_row(int(selection.rows[number]), self.config.feature)
