"""The fill: bytes of mapped shards, compared with their checksums and copied into a batch.

Without PyTorch, so that the reader process starts faster.
"""

import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Thread

import numpy as np
import xxhash
from numpy.typing import NDArray

from aalbert.shards.loading.batch_shape import BatchArrays
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import EpochPlan, OwnBatch
from aalbert.shards.loading.look_up import Contents, Span, make_spans
from aalbert.shards.loading.order import Rows
from aalbert.shards.loading.utterance_table import StoredArrays, UtteranceTable
from aalbert.shards.reading.dataset import Dataset


class ShardMaps(dict[int, memoryview]):
    """Shards by number. Those of a remote dataset are locked in its cache for one window."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        super().__init__()
        self._datasets = datasets
        self._fetching: Thread | None = None
        self._remote = any(dataset.mirror for dataset in datasets)
        self._entered: tuple[int, int] | None = None

    def __missing__(self, shard: int) -> memoryview:
        dataset, number = self._find(shard)
        self[shard] = dataset.map_shard(number).data
        return self[shard]

    def enter(self, batch: OwnBatch, plan: EpochPlan) -> None:
        """Release the remote shards outside of a batch's window, and fetch the next ones ahead.

        Local shards stay mapped. Raises `ConfigError` when the window is larger than the cache.
        """
        epoch, window = batch.epoch, batch.window
        if self._remote and (epoch, window) != self._entered:
            self._entered = (epoch, window)
            following = plan.window_shards(epoch, window + 1)
            self._enter_window(
                plan.window_shards(epoch, window),
                following or plan.window_shards(epoch + 1, 0),
            )

    def require_whole(self, contents: Contents) -> None:
        """Raise `IntegrityError` when a shard of a batch was cut off since it was mapped.

        For a process that must not be ended by that, unlike a reader, whose parent names it.
        """
        for shard in {shard for _, shard, _, _ in contents.spans[0]} & self.keys():
            dataset, number = self._find(shard)
            dataset.require_whole(number)

    def _enter_window(self, window: Collection[int], following: Collection[int]) -> None:
        """Release all remote shards except those of a window, and start to fetch the next ones.

        Shards that are fetched ahead are not locked: processes that need the room now go first.
        """
        self._check_room(window)
        for shard in [mapped for mapped in self if mapped not in window]:
            if self._find(shard)[0].mirror:
                del self[shard]
        for first, dataset in self._numbered():
            dataset.release_shards({shard - first for shard in window})
        if self._fetching is None or not self._fetching.is_alive():
            shards = [self._find(shard) for shard in (*window, *following)]
            # A daemon: a program that has all its batches does not wait for more to be fetched.
            self._fetching = Thread(
                target=fetch_ahead,
                args=(shards, weakref.ref(self)),
                name="fetch-ahead",
                daemon=True,
            )
            self._fetching.start()

    def _check_room(self, window: Collection[int]) -> None:
        """Raise `ConfigError` when a cache cannot hold all its shards of a window."""
        sizes: dict[Path, int] = {}
        for shard in window:
            dataset, number = self._find(shard)
            if dataset.mirror:
                cache = dataset.mirror.cache.folder
                sizes[cache] = sizes.get(cache, 0) + dataset.shard_bytes(number)
                dataset.mirror.cache.check_room(sizes[cache], f"a window of {len(window)} shards")

    def _numbered(self) -> Iterator[tuple[int, Dataset]]:
        """Yield every dataset with the number of its first shard."""
        first = 0
        for dataset in self._datasets:
            yield first, dataset
            first += len(dataset.shard_paths)

    def _find(self, shard: int) -> tuple[Dataset, int]:
        """Return the dataset of a shard, and the shard's number there."""
        for first, dataset in self._numbered():
            if shard < first + len(dataset.shard_paths):
                return dataset, shard - first
        raise KeyError(shard)


def fetch_ahead(shards: Sequence[tuple[Dataset, int]], reader: "weakref.ref[ShardMaps]") -> None:
    """Fetch shards while there is someone to read them.

    An error here occurs again, and is reported, when the shard is read.
    """
    for dataset, number in shards:
        if reader() is None:
            return
        try:
            dataset.fetch_shard(number)
        except Exception:  # of the system, a backend, the cache: all of them will occur again
            return


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
