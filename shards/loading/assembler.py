"""Batches as arrays: which utterances, how large, and their features copied together.

No PyTorch here: the process that reads ahead starts faster without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, starmap
from operator import mul

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.errors import require
from aalbert.shards.loading.batch_shape import BatchArrays, BatchShape, BatchSize
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import Part, Plan, Step
from aalbert.shards.loading.order import Rows, crop_start, padded_lengths, padded_shape
from aalbert.shards.loading.selected_utterances import (
    Entries,
    ShardMaps,
    StoredFeature,
    common_frames,
    open_features,
)
from aalbert.shards.reading.dataset import Selection

# An entry, its shard, and where bytes of it begin and end there.
Place = tuple[int, int, int, int]

# Rows of a batch of static shape that hold no utterance.
NO_ROW = -1


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a batch holds: utterances by number (`own`), and where each feature of them lies.

    `lengths` and `rows` have the batch's number of utterances, those that hold none too.
    """

    own: Rows
    shape: BatchShape
    lengths: Rows
    rows: Rows
    places: list[list[Place]]


class Assembler:
    """Copies the features of utterances into batches.

    An entry is the number of a selected utterance (see `plan`); its row counts through the
    datasets one after another. `reading` holds the entry that is being read, for whoever has to
    say what a reader died of.
    """

    def __init__(self, selections: Sequence[Selection], config: LoaderConfig) -> None:
        require(bool(selections), "a loader needs a dataset")
        self.config = config
        self.reading = np.zeros(1, np.int64)
        self._entered: tuple[int, int] | None = None
        self._entries = Entries(selections)
        self._features = open_features(self._entries, config.features)
        self._dims = tuple(feature.dims for feature in self._features)
        self.utterances = len(self._entries)
        self._whole_frames = common_frames(self._entries, self._features)
        self.frames = np.minimum(self._whole_frames, config.crop_frames or np.iinfo(np.int64).max)
        self._check_static_lengths()

    @cached_property
    def plan(self) -> Plan:
        """The order of all epochs."""
        selections = self._entries.selections
        return Plan(
            self.frames,
            self._entries.shards,
            self.config.order,
            seed=self.config.seed,
            fingerprint="+".join(some.dataset.manifest.fingerprint for some in selections),
            shuffle=self.config.shuffle,
            parts=[Part(len(some.rows), some.weight) for some in selections],
        )

    def look_up(self, batches: Sequence[Rows], epochs: Sequence[int]) -> list[Contents]:
        """Return what batches of these entries hold, each of its epoch, and where in the shards.

        Several at once take little longer than one.
        """
        entries, counts = np.concatenate(batches), [len(batch) for batch in batches]
        own = entries % self.utterances
        starts = self._crop_starts(entries, np.repeat(epochs, counts))
        lengths, rows = self.frames[own], self._entries.rows[own]
        places = [self._places(feature, own, starts, lengths) for feature in self._features]
        ends = accumulate(counts, initial=0)
        return [
            self._contents(own[some], lengths[some], rows[some], [each[some] for each in places])
            for some in starmap(slice, pairwise(ends))
        ]

    def _contents(
        self, own: Rows, lengths: Rows, rows: Rows, places: list[list[Place]]
    ) -> Contents:
        """Return the contents of one batch."""
        size = self._size(lengths.tolist())
        return Contents(
            own=own,
            shape=self.shape_of(size),
            lengths=extended(lengths, size.utterances, 0),
            rows=extended(rows, size.utterances, NO_ROW),
            places=places,
        )

    def _size(self, lengths: list[int]) -> BatchSize:
        """Return the size of a batch of these lengths."""
        order, count = self.config.order, len(lengths)
        total, squared, longest = sum(lengths), sum(map(mul, lengths, lengths)), max(lengths)
        size = (count, total) if order.packed else padded_shape(count, longest, order)
        return BatchSize(*size, total, squared, longest)

    def _places(
        self, feature: StoredFeature, own: Rows, starts: Rows, lengths: Rows
    ) -> list[Place]:
        """Return where so many frames of the utterances lie, from their starts on."""
        begins = feature.begins[own] + starts * feature.row_bytes
        return self._stretches(own, begins, lengths * feature.row_bytes)

    def _stretches(self, own: Rows, begins: Rows, sizes: Rows) -> list[Place]:
        """Return the places of so many bytes of each utterance, in its shard."""
        columns = (own, self._entries.shards[own], begins, begins + sizes)
        return list(zip(*map(np.ndarray.tolist, columns), strict=True))

    def shape_of(self, size: BatchSize) -> BatchShape:
        """Return the shape of a batch of this size."""
        return BatchShape(size, self._dims, self.config.order.packed)

    def most_bytes(self) -> int:
        """Return how many bytes a batch can take at most."""
        order = self.config.order
        longest = int(padded_lengths(self.frames.max(keepdims=True), order)[0])
        frames = max(order.frames_per_batch, longest)
        shortest = max(1, int(padded_lengths(self.frames.min(keepdims=True), order)[0]))
        most = BatchSize(frames // shortest, frames, frames, frames * longest, longest)
        return BatchShape(most, self._dims, packed=True).bytes

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

    def fill(self, contents: Contents, arrays: BatchArrays) -> None:
        """Write a batch, zeros past the end of each utterance.

        Raises `IntegrityError`, naming shard and key, when bytes are not those that were written.
        """
        if self.config.verify == "always" or not self._checked[contents.own].all():
            self._compare(contents.own)
        arrays.lengths[:] = contents.lengths
        arrays.rows[:] = contents.rows
        for places, array in zip(contents.places, arrays.features, strict=True):
            write_payloads(array, self._payloads(places), packed=self.config.order.packed)

    def _compare(self, own: Rows) -> None:
        """Compare the checksums of the utterances' whole arrays with those that were written."""
        for feature in self._features:
            sizes = feature.stored_frames[own] * feature.row_bytes
            payloads = self._payloads(self._stretches(own, feature.offsets[own], sizes))
            for payload, written in zip(payloads, feature.hashes[own].tolist(), strict=True):
                if xxhash.xxh3_64_intdigest(payload) != written:
                    self._entries.refuse(int(self.reading[0]), feature.name)
        self._checked[own] = True

    def _payloads(self, places: Iterable[Place]) -> Iterator[memoryview]:
        """Yield the bytes that lie at these places."""
        for entry, shard, begin, end in places:
            self.reading[0] = entry
            yield self._maps[shard][begin:end]

    def _crop_starts(self, entries: Rows, epochs: Rows) -> Rows:
        """Return the first frame that its epoch, and copy, takes of each utterance."""
        starts = np.zeros(len(entries), np.int64)
        crop_frames, seed = self.config.crop_frames, self.config.seed
        if crop_frames is None:
            return starts
        frames = self._whole_frames[entries % self.utterances]
        for number in np.flatnonzero(frames > crop_frames).tolist():
            copy, own = divmod(int(entries[number]), self.utterances)
            starts[number] = crop_start(
                self._entries.key(own),
                int(frames[number]),
                crop_frames,
                seed=seed,
                epoch=int(epochs[number]) if self.config.shuffle else 0,
                copy=copy,
            )
        return starts

    def describe(self, entry: int) -> str:
        """Return shard and key of an entry, for messages."""
        return self._entries.describe(entry % self.utterances)

    @cached_property
    def _checked(self) -> NDArray[np.bool_]:
        """The entries whose checksums need not be compared (again)."""
        return np.full(self.utterances, self.config.verify == "never")

    @cached_property
    def _maps(self) -> ShardMaps:
        return ShardMaps([some.dataset for some in self._entries.selections])

    def _check_static_lengths(self) -> None:
        lengths = self.config.order.static_lengths
        longest = int(self.frames.max(initial=0))
        require(
            not lengths or longest <= lengths[-1],
            f"static_lengths end at {lengths[-1] if lengths else 0} frames, the longest utterance "
            f"has {longest}: add a length, or set crop_frames",
        )


def extended(values: Rows, count: int, filler: int) -> Rows:
    """Return so many numbers: the values, and a filler in the places that are left."""
    if len(values) == count:
        return values
    result = np.full(count, filler)
    result[: len(values)] = values
    return result


def write_payloads(
    features: NDArray[np.float16], payloads: Iterable[memoryview], *, packed: bool
) -> None:
    """Write the bytes of utterances one after another, or each into a row of its own.

    What is left of the array is zero.
    """
    bytes_out = features.reshape(-1).view(np.uint8)
    # Views of memory are copied with less ado than arrays.
    view_out = bytes_out.data
    width = 2 * features.shape[-2] * features.shape[-1]
    place = 0
    for number, payload in enumerate(payloads):
        end = place + len(payload)
        view_out[place:end] = payload
        place = end if packed else (number + 1) * width
        if place > end:
            bytes_out[end:place] = 0
    bytes_out[place:] = 0
