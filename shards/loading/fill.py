"""The fill: bytes of utterances compared with their checksums, and copied together into a batch.

No PyTorch: the process that reads ahead starts faster without it.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.shards.loading.batch_shape import BatchArrays
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.look_up import Contents, Place, places_of
from aalbert.shards.loading.order import Rows
from aalbert.shards.loading.shard_maps import ShardMaps
from aalbert.shards.loading.utterance_table import StoredArrays, UtteranceTable


class Filler:
    """Writes the features of utterances into the arrays of a batch.

    `reading (1,)` holds the entry that is being read, for whoever has to say what a reader died
    of.
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
        # The entries whose checksums need not be compared (again).
        self._checked = np.full(len(table), config.verify == "never")

    def fill(self, contents: Contents, batch: BatchArrays) -> None:
        """Write a batch, zeros past the end of each utterance.

        Raises `IntegrityError`, naming shard and key, when bytes are not those that were written.
        """
        if self._config.verify == "always" or not self._checked[contents.own].all():
            self._compare(contents.own)
        batch.lengths[:] = contents.lengths
        batch.rows[:] = contents.rows
        for places, features in zip(contents.places, batch.features, strict=True):
            write_payloads(features, self._payloads(places), packed=self._config.order.packed)

    def _compare(self, own: Rows) -> None:
        """Compare the checksums of the utterances' whole arrays with those that were written."""
        for some in self._arrays:
            sizes = some.frames[own] * some.row_bytes
            places = places_of(own, self._table.shards[own], some.offsets[own], sizes)
            written = some.hashes[own].tolist()
            for payload, expected in zip(self._payloads(places), written, strict=True):
                if xxhash.xxh3_64_intdigest(payload) != expected:
                    self._table.refuse(int(self._reading[0]), some.name)
        self._checked[own] = True

    def _payloads(self, places: Iterable[Place]) -> Iterator[memoryview]:
        """Yield the bytes that lie at these places."""
        for entry, shard, begin, end in places:
            self._reading[0] = entry
            yield self._maps[shard][begin:end]


def write_payloads(
    features: NDArray[np.float16], payloads: Iterable[memoryview], *, packed: bool
) -> None:
    """Write the bytes of utterances one after another, or each into a row of its own.

    What is left of the array is zero.
    """
    bytes_out = features.reshape(-1).view(np.uint8)
    # Copying between memoryviews costs less than between arrays.
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
