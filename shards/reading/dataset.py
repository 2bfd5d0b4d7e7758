"""Datasets read by index: shards mapped into memory, features as views into them."""

import os
import weakref
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from aalbert.common.notes import detail
from aalbert.common.store import is_url
from aalbert.errors import InputError, IntegrityError, require
from aalbert.shards.format.index import frame_counts
from aalbert.shards.format.manifest import FeatureStatistics, read_manifest
from aalbert.shards.format.statistics import pool_statistics
from aalbert.shards.reading.presence import check_size, check_split
from aalbert.shards.reading.remote import Mirror, open_mirror
from aalbert.shards.reading.shard_cache import ShardCache
from aalbert.shards.reading.tables import check_locations, open_index, open_statistics

STORED_DTYPE = np.dtype("<f2")


@dataclass(frozen=True)
class ArrayLocations:
    """The locations and hashes of the arrays of one feature in their shards; one entry per row."""

    offset: NDArray[np.int64]
    bytes: NDArray[np.int64]
    xxh3: NDArray[np.uint64]


class Dataset:
    """A folder made by `aalbert prepare`, or one at an fsspec URL (`s3://bucket/librispeech`).

    The indexes of a dataset at a URL are fetched when it is opened, its shards when they are
    read, into `cache`, the user's by default; `folder` is then its local part. `place` is the path
    or URL that was opened, for messages; `origin` is it too, to open it again from anywhere, and
    may hold secrets. A row is the number of an utterance in `table`, the indexes of all
    splits one after another. Opening reads the manifest, checks and maps the indexes, and checks
    that every shard is present with its size and that there is no other; statistics and shards are
    mapped when they are first used. So a million utterances open in a fraction of a second.

    A pickled dataset opens the same place in the process that unpickles it.
    """

    def __init__(self, place: Path | str, cache: ShardCache | None = None) -> None:
        self.mirror: Mirror | None = None
        self.place = str(place)
        self.folder = Path(place)
        self.origin = str(self.folder.absolute())
        if is_url(place):
            self.mirror, self.manifest = open_mirror(
                str(place), cache or ShardCache.from_environment()
            )
            self.place, self.folder = self.mirror.store.name, self.mirror.folder
            self.origin = self.mirror.store.url
            self.mirror.fetch_indexes(self.manifest)
        else:
            self.manifest = read_manifest(self.folder)
            for split in self.manifest.splits.values():
                check_split(self.folder, split)
        splits = self.manifest.splits
        self.table: pa.Table = open_index(self.folder, self.manifest)
        self._shard_records = [shard for split in splits.values() for shard in split.shards]
        self.shard_paths = [self.folder / shard.path for shard in self._shard_records]
        self._shard_of_row = self._column("shard") + self._first_shards()
        self._locations = lru_cache(maxsize=None)(self._array_locations)
        self._check_locations = lru_cache(maxsize=None)(
            partial(check_locations, self.folder, self.manifest, self.table)
        )
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._locks: dict[int, IO[bytes]] = {}
        weakref.finalize(self, close_locks, self._locks)
        detail(f"opened {self.place}: {len(self):,} utterances, {self.manifest.fingerprint}")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        manifest = self.manifest
        speakers = pc.count_distinct(self.table.column("speaker")).as_py()
        features = ", ".join(f"{name} {dims}" for name, dims in manifest.feature_dims.items())
        return (
            f"Dataset({self.place!r}: {len(self):,} utterances, {manifest.hours:,.2f} hours, "
            f"{speakers:,} speakers; splits {', '.join(manifest.splits)}; features {features})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the same dataset."""
        cache = self.mirror.cache if self.mirror else None
        return reopen, (self.origin, cache, self.manifest.fingerprint)

    def rows(self, splits: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of all splits that match one of the patterns (`train*`, `dev-clean`).

        Raises `ConfigError` when a pattern matches no split.
        """
        matched = self.manifest.match_splits(splits, self.place)
        sizes = [split.utterances for split in self.manifest.splits.values()]
        return np.flatnonzero(np.repeat([name in matched for name in self.manifest.splits], sizes))

    def column(self, name: str) -> list[str | None]:
        """Return a column of the index as text, one value per row.

        Raises `InputError` when the index has no such column.
        """
        if name not in self.table.column_names:
            raise InputError(
                f"{self.place} has no column '{name}': it has {', '.join(self.table.column_names)}"
            )
        values = self.table.column(name).to_pylist()
        return [text_of(value) for value in values]

    def frames(self, feature: str) -> NDArray[np.int64]:
        """Return the number of frames of each row.

        Raises `IntegrityError` when an array cannot have so many where the index places it.
        """
        self.require_feature(feature)
        self._check_locations(feature)
        return frame_counts(self.table, feature)

    def statistics(self, rows: NDArray[np.int64], feature: str) -> FeatureStatistics:
        """Return mean and standard deviation per dimension over all frames of these rows."""
        frames = np.zeros(len(self), np.int64)
        frames[rows] = self.frames(feature)[rows]
        return pool_statistics(self._statistics, feature, frames)

    def mean(self, row: int, feature: str) -> NDArray[np.float32]:
        """Return the mean `(dims,)` of a feature over the frames of a row."""
        self.require_feature(feature)
        return np.array(self._statistics.column(f"{feature}_mean")[row].as_py(), np.float32)

    def shards(self) -> NDArray[np.int64]:
        """Return the number of the shard of each row, counted over all splits."""
        return self._shard_of_row

    def require_feature(self, feature: str) -> None:
        """Raise `ConfigError` when the dataset does not store this feature."""
        self.manifest.require_feature(feature, self.place)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self.table.column("key")[row].as_py())

    def keys(self, rows: Iterable[int]) -> list[str]:
        """Return the keys of these rows."""
        return [self.key(row) for row in rows]

    def attached(self, path: str) -> Path:
        """Return the local file of one of the corpus's own files; `InputError` for another."""
        records = {record.path: record for record in self.manifest.attachments}
        if path not in records:
            raise InputError(
                f"{self.place} stores no file {path}: it has {', '.join(records) or 'none'}"
            )
        if self.mirror is not None:
            self.mirror.fetch_file(records[path])
        return self.folder / path

    def select(self, splits: Iterable[str], weight: float = 1.0) -> "Selection":
        """Return the rows of these splits for a `Loader`; see `rows` and `Selection`."""
        return Selection(self, self.rows(splits), weight)

    def locations(self, feature: str) -> ArrayLocations:
        """Return the locations of a feature's arrays in the shards, one entry per row."""
        locations: ArrayLocations = self._locations(feature)
        return locations

    def shard_name(self, row: int) -> str:
        """Return the path or URL of the shard of a row, for messages."""
        return f"{self.place}/{self._shard_records[int(self._shard_of_row[row])].path}"

    def shard_path(self, row: int) -> Path:
        """Return the local file of the shard of a row."""
        return self.shard_paths[int(self._shard_of_row[row])]

    def shard_bytes(self, shard: int) -> int:
        """Return the size of a shard in bytes."""
        return self._shard_records[shard].size

    def map_shard(self, shard: int) -> NDArray[np.uint8]:
        """Return all bytes of a shard, mapped into memory; a remote one is fetched if necessary.

        Raises `IntegrityError` when it is missing or has another size, `StorageError` when it
        cannot be fetched.
        """
        if shard not in self._maps:
            record = self._shard_records[shard]
            if self.mirror:
                self._locks[shard] = self.mirror.fetch_and_lock(record)
            # Not by `mmap`, which keeps a file descriptor of every shard.
            with pa.memory_map(str(check_size(self.folder, record))) as file:
                self._maps[shard] = np.frombuffer(file.read_buffer(), np.uint8)
        return self._maps[shard]

    def require_whole(self, shard: int) -> None:
        """Raise `IntegrityError` when the file of a mapped shard was cut off or replaced since.

        Reading a map past the end of its file ends the process (SIGBUS) without a line. This look
        takes a microsecond; reading instead of mapping would double the time of an utterance. A
        file that was deleted stays whole for those who have it mapped.
        """
        record = self._shard_records[shard]
        try:
            size = os.stat(self.shard_paths[shard]).st_size
        except FileNotFoundError:
            return
        if size != record.size:
            check_size(self.folder, record)

    def fetch_shard(self, shard: int) -> None:
        """Fetch a remote shard into the cache without locking it there."""
        if self.mirror:
            self.mirror.fetch_and_lock(self._shard_records[shard]).close()

    def release_shards(self, kept: Container[int]) -> None:
        """Unmap and unlock all remote shards except `kept`, so that the cache may remove them."""
        for shard in [locked for locked in self._locks if locked not in kept]:
            del self._maps[shard]
            self._locks.pop(shard).close()

    def features(self, row: int, feature: str) -> NDArray[np.float16]:
        """Return the features of a row as a view `(frames, dims)` into the mapped shard.

        Raises `IntegrityError` with shard and key when the bytes do not match their checksum, and
        with the shard when it was cut off. A view is for use at once: copy what is kept while
        others may write to the shard.
        """
        locations = self._locations(feature)
        start, number = int(locations.offset[row]), int(self._shard_of_row[row])
        shard = self.map_shard(number)
        self.require_whole(number)
        payload = shard[start : start + int(locations.bytes[row])]
        if xxhash.xxh3_64_intdigest(payload.data) != int(locations.xxh3[row]):
            self.raise_checksum_error(row, feature)
        dims = self.manifest.features[feature].dims
        return payload.view(STORED_DTYPE).reshape(-1, dims)

    def raise_checksum_error(self, row: int, feature: str) -> NoReturn:
        """Raise the `IntegrityError` for a row whose bytes do not match their checksum.

        Those of a store matched when they were fetched.
        """
        way_out = "restore the shard or prepare the data again"
        if self.mirror:
            way_out = f"delete its copy {self.shard_path(row)}, and it is fetched again"
        raise IntegrityError(
            f"{self.shard_name(row)}: the {feature} of '{self.key(row)}' is "
            f"not what was written (checksum); {way_out}"
        )

    @cached_property
    def _statistics(self) -> pa.Table:
        """The statistics of all splits, with the rows of `table`."""
        return open_statistics(self.folder, self.manifest)

    def _column(self, name: str) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self.table.column(name).to_numpy()
        return numbers

    def _array_locations(self, feature: str) -> ArrayLocations:
        self._check_locations(feature)
        return ArrayLocations(
            offset=self._column(f"{feature}_offset"),
            bytes=self._column(f"{feature}_bytes"),
            xxh3=self._column(f"{feature}_xxh3").astype(np.uint64),
        )

    def _first_shards(self) -> NDArray[np.int64]:
        """Return, for each row, the number of shards in the splits before its own."""
        splits = list(self.manifest.splits.values())
        first = np.cumsum([0, *(len(split.shards) for split in splits)])[:-1]
        return np.repeat(first, [split.utterances for split in splits])


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """The rows of a dataset that a loader reads, in ascending order, and their weight.

    An epoch contains each row `weight` times: twice with 2, every other epoch with 0.5.
    """

    dataset: Dataset
    rows: NDArray[np.int64]
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise `ConfigError` for rows that do not exist or do not ascend, and for a bad weight."""
        rows = self.rows
        ascending = bool((np.diff(rows) > 0).all())
        inside = not len(rows) or (rows[0] >= 0 and rows[-1] < len(self.dataset))
        require(
            ascending and bool(inside),
            f"the selected rows of {self.dataset.place} must rise and lie between 0 and "
            f"{len(self.dataset) - 1}",
        )
        require(self.weight > 0, f"a dataset has the weight {self.weight}: give one above 0")

    def __repr__(self) -> str:
        weight = f", weight {self.weight:g}" if self.weight != 1 else ""
        return f"Selection({len(self.rows):,} utterances of {self.dataset!r}{weight})"


def text_of(value: str | int | list[str] | None) -> str | None:
    """Return a value of the index as text: a list, such as the flags, between spaces."""
    if value is None:
        return None
    return " ".join(value) if isinstance(value, list) else str(value)


def reopen(origin: str, cache: ShardCache | None, fingerprint: str) -> Dataset:
    """Open a dataset that another process has open.

    Raises `IntegrityError` when it is no longer the one with this fingerprint.
    """
    dataset = Dataset(origin, cache)
    if dataset.manifest.fingerprint != fingerprint:
        raise IntegrityError(f"{dataset.place} was replaced while it was read: start again")
    return dataset


def close_locks(locks: dict[int, IO[bytes]]) -> None:
    """Release the locks on shards in the cache."""
    for lock in locks.values():
        lock.close()
