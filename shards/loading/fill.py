"""The fill: bytes of utterances compared with their checksums and copied into a batch.

Without PyTorch, so that the reader process starts faster.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.shards.loading.batch_shape import BatchArrays
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.look_up import Contents, Span, make_spans
from aalbert.shards.loading.order import Rows
from aalbert.shards.loading.shard_maps import ShardMaps
from aalbert.shards.loading.utterance_table import StoredArrays, UtteranceTable


class Filler:
    """A writer of utterances' features into the arrays of a batch.

    `reading (1,)` holds the entry that is being read, for the error message when the process dies.
    """

    def __init__(
        self,
        table: UtteranceTable,
        arrays: Sequence[StoredArrays],
        maps: ShardMaps,
        config: LoaderConfig,
        reading: NDArray[np.int64] | None = None,
    ) -> None:
        self._table = table
        self._arrays = arrays
        self._maps = maps
        self._config = config
        self._reading = np.zeros(1, np.int64) if reading is None else reading
        # The entries whose checksums need not be compared, or not again.
        self._verified = np.full(len(table), config.verify == "never")

    def fill(self, contents: Contents, batch: BatchArrays) -> None:
        """Write a batch, with zeros past the end of each utterance.

        Raises `IntegrityError` with shard and key when bytes do not match their checksum.
        """
        if self._config.verify == "always" or not self._verified[contents.entries].all():
            self._verify(contents.entries)
        batch.lengths[:] = contents.lengths
        batch.rows[:] = contents.rows
        for spans, features in zip(contents.spans, batch.features, strict=True):
            write_payloads(features, self._payloads(spans), packed=self._config.order.packed)

    def _verify(self, entries: Rows) -> None:
        """Compare the checksums of the utterances' whole arrays with those in the index."""
        for arrays in self._arrays:
            sizes = arrays.frames[entries] * arrays.frame_bytes
            shards = self._table.shards[entries]
            spans = make_spans(entries, shards, arrays.offsets[entries], sizes)
            written = arrays.hashes[entries].tolist()
            for payload, expected in zip(self._payloads(spans), written, strict=True):
                if xxhash.xxh3_64_intdigest(payload) != expected:
                    self._table.raise_checksum_error(int(self._reading[0]), arrays.name)
        self._verified[entries] = True

    def _payloads(self, spans: Iterable[Span]) -> Iterator[memoryview]:
        """Yield the bytes of these spans."""
        for entry, shard, begin, end in spans:
            self._reading[0] = entry
            yield self._maps[shard][begin:end]


def write_payloads(
    features: NDArray[np.float16], payloads: Iterable[memoryview], *, packed: bool
) -> None:
    """Write the bytes of utterances one after another, or each into its own row.

    The rest of the array is set to zero.
    """
    bytes_out = features.reshape(-1).view(np.uint8)
    # Copying between memoryviews costs less than between arrays.
    view_out = bytes_out.data
    width = 2 * features.shape[-2] * features.shape[-1]
    start = 0
    for number, payload in enumerate(payloads):
        end = start + len(payload)
        view_out[start:end] = payload
        start = end if packed else (number + 1) * width
        if start > end:
            bytes_out[end:start] = 0
    bytes_out[start:] = 0
