"""The look-up: what batches of entries hold, and where the bytes of every utterance lie.

Crops are drawn here. No PyTorch: the process that reads ahead starts faster without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, starmap
from operator import mul

import numpy as np

from aalbert.shards.loading.batch_shape import BatchShape, BatchSize
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.order import Rows, crop_start, padded_shape
from aalbert.shards.loading.utterance_table import StoredArrays, UtteranceTable

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


class LookUp:
    """Finds what batches hold; `lengths` are the frames that are taken of each utterance.

    Several batches at once take little longer than one.
    """

    def __init__(
        self,
        table: UtteranceTable,
        arrays: Sequence[StoredArrays],
        lengths: Rows,
        config: LoaderConfig,
    ) -> None:
        self._table = table
        self._arrays = arrays
        self._config = config
        self._lengths = lengths

    def find(self, batches: Sequence[Rows], epochs: Sequence[int]) -> list[Contents]:
        """Return what batches of these entries hold, each of its epoch."""
        entries, counts = np.concatenate(batches), [len(batch) for batch in batches]
        own = entries % len(self._table)
        starts = self._crop_starts(entries, np.repeat(epochs, counts))
        lengths, rows, shards = self._lengths[own], self._table.rows[own], self._table.shards[own]
        places = []
        for some in self._arrays:
            begins = some.offsets[own] + (starts + some.skipped) * some.row_bytes
            places.append(places_of(own, shards, begins, lengths * some.row_bytes))
        ends = accumulate(counts, initial=0)
        return [
            self._contents(own[some], lengths[some], rows[some], [each[some] for each in places])
            for some in starmap(slice, pairwise(ends))
        ]

    def _contents(
        self, own: Rows, lengths: Rows, rows: Rows, places: list[list[Place]]
    ) -> Contents:
        """Return the contents of one batch."""
        order = self._config.order
        size = size_of(lengths.tolist(), order)
        return Contents(
            own=own,
            shape=BatchShape(size, self._table.dims, order.packed),
            lengths=extended(lengths, size.utterances, 0),
            rows=extended(rows, size.utterances, NO_ROW),
            places=places,
        )

    def _crop_starts(self, entries: Rows, epochs: Rows) -> Rows:
        """Return the first frame that its epoch, and copy, takes of each utterance."""
        starts = np.zeros(len(entries), np.int64)
        crop_frames, seed = self._config.crop_frames, self._config.seed
        if crop_frames is None:
            return starts
        frames = self._table.frames[entries % len(self._table)]
        for number in np.flatnonzero(frames > crop_frames).tolist():
            copy, own = divmod(int(entries[number]), len(self._table))
            starts[number] = crop_start(
                self._table.key(own),
                int(frames[number]),
                crop_frames,
                seed=seed,
                epoch=int(epochs[number]) if self._config.shuffle else 0,
                copy=copy,
            )
        return starts


def places_of(own: Rows, shards: Rows, begins: Rows, sizes: Rows) -> list[Place]:
    """Return the places of so many bytes of each utterance, in its shard."""
    columns = (own, shards, begins, begins + sizes)
    return list(zip(*map(np.ndarray.tolist, columns), strict=True))


def size_of(lengths: list[int], order: OrderConfig) -> BatchSize:
    """Return the size of a batch of these lengths."""
    count, total, longest = len(lengths), sum(lengths), max(lengths)
    size = (count, total) if order.packed else padded_shape(count, longest, order)
    return BatchSize(*size, total, sum(map(mul, lengths, lengths)), longest)


def extended(values: Rows, count: int, filler: int) -> Rows:
    """Return so many numbers: the values, and a filler in the places that are left."""
    if len(values) == count:
        return values
    result = np.full(count, filler)
    result[: len(values)] = values
    return result
