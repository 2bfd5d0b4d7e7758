"""Reading a dataset by index: shards mapped into memory, features as views into them."""

import mmap
import weakref
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from aalbert.common.files import file_digest
from aalbert.common.store import is_url
from aalbert.errors import InputError, IntegrityError, require
from aalbert.shards.format.index import read_index
from aalbert.shards.format.manifest import FeatureStatistics, FileRecord, SplitRecord, read_manifest
from aalbert.shards.format.statistics import frame_counts, pool_statistics
from aalbert.shards.reading.remote import Mirror, open_mirror
from aalbert.shards.reading.shard_cache import ShardCache

STORED_DTYPE = np.dtype("<f2")


@dataclass(frozen=True)
class FeaturePlaces:
    """Where the arrays of one feature lie in their shards, and their hashes; one entry a row."""

    offset: NDArray[np.int64]
    bytes: NDArray[np.int64]
    xxh3: NDArray[np.uint64]


class Dataset:
    """A folder made by `aalbert prepare`, or one at an fsspec URL (`s3://bucket/librispeech`).

    Of a dataset at a URL, indexes are fetched when it is opened and shards when they are read,
    into `cache`, the user's by default; `folder` is the local part of it then, and `place` names
    what was opened. A row is the number of an utterance in `table`, the indexes of all splits one
    after another. Opening reads the manifest, checks and maps the indexes and checks that
    every shard is there with its size, and no other; statistics and shards are mapped when
    they are first asked for. So a million utterances open in a fraction of a second.
    """

    def __init__(self, place: Path | str, cache: ShardCache | None = None) -> None:
        self.mirror: Mirror | None = None
        self.place = str(place)
        self.folder = Path(place)
        if is_url(place):
            self.mirror, self.manifest = open_mirror(str(place), cache or ShardCache.of_the_user())
            self.place, self.folder = self.mirror.store.name, self.mirror.folder
            self.mirror.fetch_indexes(self.manifest)
        else:
            self.manifest = read_manifest(self.folder)
            for split in self.manifest.splits.values():
                check_split(self.folder, split)
        splits = self.manifest.splits
        self.table: pa.Table = pa.concat_tables(
            [open_index(self.folder, split.index) for split in splits.values()]
        )
        self._shard_records = [shard for split in splits.values() for shard in split.shards]
        self.shard_paths = [self.folder / shard.path for shard in self._shard_records]
        self._shard_of_row = self._column("shard") + self._first_shards()
        self._places = lru_cache(maxsize=None)(self._feature_places)
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._held: dict[int, IO[bytes]] = {}
        weakref.finalize(self, close_all, self._held)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self, splits: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of all splits that match one of the patterns (`train*`, `dev-clean`).

        Raises `ConfigError` when a pattern matches no split.
        """
        chosen = self.manifest.chosen_splits(splits, self.place)
        sizes = [split.utterances for split in self.manifest.splits.values()]
        return np.flatnonzero(np.repeat([name in chosen for name in self.manifest.splits], sizes))

    def column(self, name: str) -> list[str | None]:
        """Return a text column of the index for every row."""
        if name not in self.table.column_names:
            raise InputError(
                f"{self.place} has no column '{name}': it has {', '.join(self.table.column_names)}"
            )
        values: list[str | None] = self.table.column(name).to_pylist()
        return values

    def frames(self, feature: str) -> NDArray[np.int64]:
        """Return the number of frames of every row."""
        self.require_feature(feature)
        return frame_counts(self.table, feature)

    def statistics(self, rows: NDArray[np.int64], feature: str) -> FeatureStatistics:
        """Return mean and deviation per dimension over all frames of these rows."""
        chosen = np.zeros(len(self), np.int64)
        chosen[rows] = self.frames(feature)[rows]
        return pool_statistics(self._statistics, feature, chosen)

    def shards(self) -> NDArray[np.int64]:
        """Return the number of the shard that holds every row, over all splits."""
        return self._shard_of_row

    def require_feature(self, feature: str) -> None:
        """Raise `ConfigError` when the dataset does not store this feature."""
        self.manifest.require_feature(feature, self.place)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self.table.column("key")[row].as_py())

    def keys(self, rows: Iterable[int]) -> list[str]:
        """Return the keys of rows."""
        return [self.key(row) for row in rows]

    def select(self, splits: Iterable[str], weight: float = 1.0) -> "Selection":
        """Return the rows of some splits as what a `Loader` takes; see `rows` and `Selection`."""
        return Selection(self, self.rows(splits), weight)

    def places(self, feature: str) -> FeaturePlaces:
        """Return where the arrays of a feature lie in the shards; one entry a row."""
        places: FeaturePlaces = self._places(feature)
        return places

    def shard_name(self, row: int) -> str:
        """Return the path or URL of the shard that holds a row, for messages."""
        return f"{self.place}/{self._shard_records[int(self._shard_of_row[row])].path}"

    def shard_path(self, row: int) -> Path:
        """Return the local file of the shard that holds a row."""
        return self.shard_paths[int(self._shard_of_row[row])]

    def shard_bytes(self, shard: int) -> int:
        """Return the size of a shard."""
        return self._shard_records[shard].size

    def map_shard(self, shard: int) -> NDArray[np.uint8]:
        """Return all bytes of a shard, mapped into memory, after fetching it if need be.

        Raises `IntegrityError` when it is not there any more, or not whole, `StorageError` when
        it cannot be fetched.
        """
        if shard not in self._maps:
            record = self._shard_records[shard]
            if self.mirror:
                self._held[shard] = self.mirror.hold(record)
            self._maps[shard] = map_file(self.folder, record)
        return self._maps[shard]

    def fetch_shard(self, shard: int) -> None:
        """Bring a shard into the cache, without holding it there."""
        if self.mirror:
            self.mirror.hold(self._shard_records[shard]).close()

    def release_shards(self, kept: Container[int]) -> None:
        """Let go of mapped shards but for these, so that the cache may remove them."""
        for shard in [mapped for mapped in self._held if mapped not in kept]:
            del self._maps[shard]
            self._held.pop(shard).close()

    def features(self, row: int, feature: str) -> NDArray[np.float16]:
        """Return the features of a row as a view `(frames, dims)` into the mapped shard.

        Raises `IntegrityError`, naming shard and key, when the bytes are not those
        that were written.
        """
        places = self._places(feature)
        start = int(places.offset[row])
        shard = self.map_shard(int(self._shard_of_row[row]))
        payload = shard[start : start + int(places.bytes[row])]
        if xxhash.xxh3_64_intdigest(payload.data) != int(places.xxh3[row]):
            self.refuse_row(row, feature)
        dims = self.manifest.features[feature].dims
        return payload.view(STORED_DTYPE).reshape(-1, dims)

    def refuse_row(self, row: int, feature: str) -> NoReturn:
        """Raise `IntegrityError` about a row whose bytes have another checksum."""
        raise IntegrityError(
            f"{self.shard_name(row)}: the {feature} of '{self.key(row)}' is "
            "not what was written (checksum); restore the shard or prepare the data again"
        )

    @cached_property
    def _statistics(self) -> pa.Table:
        """The statistics of all splits, row for row beside `table`."""
        records = [split.statistics for split in self.manifest.splits.values()]
        return pa.concat_tables([open_index(self.folder, record) for record in records])

    def _column(self, name: str) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self.table.column(name).to_numpy()
        return numbers

    def _feature_places(self, feature: str) -> FeaturePlaces:
        return FeaturePlaces(
            offset=self._column(f"{feature}_offset"),
            bytes=self._column(f"{feature}_bytes"),
            xxh3=self._column(f"{feature}_xxh3").astype(np.uint64),
        )

    def _first_shards(self) -> NDArray[np.int64]:
        """Return, for every row, how many shards the splits before its own have."""
        splits = list(self.manifest.splits.values())
        first = np.cumsum([0, *(len(split.shards) for split in splits)])[:-1]
        return np.repeat(first, [split.utterances for split in splits])


@dataclass(frozen=True, eq=False)
class Selection:
    """What a loader is to give of a dataset: rows, rising, and how often.

    An epoch has each row `weight` times: with 2 twice, with 0.5 every other epoch.
    """

    dataset: Dataset
    rows: NDArray[np.int64]
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rows that the dataset does not have, or that are not in its order."""
        rows = self.rows
        rising = bool((np.diff(rows) > 0).all())
        inside = not len(rows) or (rows[0] >= 0 and rows[-1] < len(self.dataset))
        require(
            rising and bool(inside),
            f"the selected rows of {self.dataset.place} must rise and lie between 0 and "
            f"{len(self.dataset) - 1}",
        )
        require(self.weight > 0, f"a dataset has the weight {self.weight}: give one above 0")


def check_split(folder: Path, split: SplitRecord) -> None:
    """Raise `IntegrityError` unless the files of a split are there with their sizes, no others."""
    for record in (split.index, split.statistics, *split.shards):
        check_size(folder, record)
    refuse_extra_shards(folder, split)


def check_size(folder: Path, record: FileRecord) -> Path:
    """Return where a file lies; `IntegrityError` when it is missing or has another size."""
    path = folder / record.path
    size = path.stat().st_size if path.is_file() else None
    if size != record.size:
        found = "is missing" if size is None else f"has {size} bytes"
        raise IntegrityError(
            f"{path} {found}, the manifest says {record.size} bytes; "
            f"restore it, or delete {folder} and prepare the data again"
        )
    return path


def open_index(folder: Path, record: FileRecord) -> pa.Table:
    """Map an index, or statistics, after comparing all of its bytes with the manifest."""
    path = folder / record.path
    if file_digest(path) != record.xxh3:
        raise IntegrityError(
            f"{path} is not what was written (checksum); restore it, or delete "
            f"{folder} and prepare the data again"
        )
    return read_index(path)


def refuse_extra_shards(folder: Path, split: SplitRecord) -> None:
    """Raise `IntegrityError` when beside the shards of a split lies one that is not recorded."""
    recorded = {folder / shard.path for shard in split.shards}
    for parent in sorted({path.parent for path in recorded}):
        extra = sorted(set(parent.glob("*.tar")) - recorded)
        if extra:
            raise IntegrityError(
                f"{extra[0]} is no part of the dataset: the manifest does not record it; "
                "move it elsewhere"
            )


def close_all(held: dict[int, IO[bytes]]) -> None:
    """Let go of the locks on shards in the cache."""
    for lock in held.values():
        lock.close()


def map_file(folder: Path, record: FileRecord) -> NDArray[np.uint8]:
    """Map a file into memory, read-only."""
    with check_size(folder, record).open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
