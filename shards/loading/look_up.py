"""The look-up: the utterances of each batch, their crops, and the location of their bytes.

Without PyTorch, so that the reader process starts faster.
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

# An entry, its shard, and the begin and end of its bytes there.
Span = tuple[int, int, int, int]

# The row of an element without an utterance, in a batch of static shape.
NO_ROW = -1


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a batch: its entries (copies as their originals), and a span per feature.

    `lengths` and `rows` also have the elements without an utterance.
    """

    entries: Rows
    shape: BatchShape
    lengths: Rows
    rows: Rows
    spans: list[list[Span]]


class LookUp:
    """Finds the contents of batches; `lengths` are the numbers of frames taken of each utterance.

    Several batches together take little longer than one.
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
        """Return the contents of batches of these entries and copies, each with its epoch."""
        copies, counts = np.concatenate(batches), [len(batch) for batch in batches]
        entries = copies % len(self._table)
        starts = self._crop_starts(copies, np.repeat(epochs, counts))
        lengths, rows = self._lengths[entries], self._table.rows[entries]
        shards = self._table.shards[entries]
        spans = []
        for arrays in self._arrays:
            begins = arrays.offsets[entries] + (starts + arrays.skipped) * arrays.frame_bytes
            spans.append(make_spans(entries, shards, begins, lengths * arrays.frame_bytes))
        ends = accumulate(counts, initial=0)
        return [
            self._contents(
                entries[batch], lengths[batch], rows[batch], [each[batch] for each in spans]
            )
            for batch in starmap(slice, pairwise(ends))
        ]

    def _contents(
        self, entries: Rows, lengths: Rows, rows: Rows, spans: list[list[Span]]
    ) -> Contents:
        """Return the contents of one batch."""
        order = self._config.order
        size = batch_size(lengths.tolist(), order)
        return Contents(
            entries=entries,
            shape=BatchShape(size, self._table.dims, order.packed),
            lengths=extend(lengths, size.utterances, 0),
            rows=extend(rows, size.utterances, NO_ROW),
            spans=spans,
        )

    def _crop_starts(self, copies: Rows, epochs: Rows) -> Rows:
        """Return the first frame of each utterance's crop, which depends on epoch and copy."""
        starts = np.zeros(len(copies), np.int64)
        crop_frames, seed = self._config.crop_frames, self._config.seed
        if crop_frames is None:
            return starts
        frames = self._table.frames[copies % len(self._table)]
        for number in np.flatnonzero(frames > crop_frames).tolist():
            copy, entry = divmod(int(copies[number]), len(self._table))
            starts[number] = crop_start(
                self._table.key(entry),
                int(frames[number]),
                crop_frames,
                seed=seed,
                epoch=int(epochs[number]) if self._config.shuffle else 0,
                copy=copy,
            )
        return starts


def make_spans(entries: Rows, shards: Rows, begins: Rows, sizes: Rows) -> list[Span]:
    """Return the span of each entry from its shard, first byte and number of bytes."""
    columns = (entries, shards, begins, begins + sizes)
    return list(zip(*map(np.ndarray.tolist, columns), strict=True))


def batch_size(lengths: list[int], order: OrderConfig) -> BatchSize:
    """Return the size of a batch of these lengths."""
    count, total, longest = len(lengths), sum(lengths), max(lengths)
    size = (count, total) if order.packed else padded_shape(count, longest, order)
    return BatchSize(*size, total, sum(map(mul, lengths, lengths)), longest)


def extend(values: Rows, count: int, fill_value: int) -> Rows:
    """Return the values, extended to `count` numbers by a fill value."""
    if len(values) == count:
        return values
    result = np.full(count, fill_value)
    result[: len(values)] = values
    return result
