"""Reading a dataset by index: shards mapped into memory, features as views into them."""

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from aalbert.errors import InputError, IntegrityError, require
from aalbert.files import file_digest
from aalbert.shards.index import read_index
from aalbert.shards.manifest import (
    FeatureStatistics,
    FileRecord,
    Manifest,
    SplitRecord,
    read_manifest,
)
from aalbert.shards.statistics import frame_counts, pool_statistics

STORED_DTYPE = np.dtype("<f2")


@dataclass(frozen=True)
class FeaturePlaces:
    """Where the arrays of one feature lie in their shards, and their hashes; one entry a row."""

    offset: NDArray[np.int64]
    bytes: NDArray[np.int64]
    xxh3: NDArray[np.uint64]


class Dataset:
    """A folder made by `aalbert prepare`.

    A row is the number of an utterance in `table`, the indexes of all splits one
    after another. Opening reads the manifest, checks and maps the indexes and checks that
    every shard is there with its size, and no other; statistics and shards are mapped when
    they are first asked for. So a million utterances open in a fraction of a second.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        splits = self.manifest.splits
        self.table: pa.Table = pa.concat_tables(
            [open_split(self.folder, split) for split in splits.values()]
        )
        self._shard_records = [shard for split in splits.values() for shard in split.shards]
        self.shard_paths = [self.folder / shard.path for shard in self._shard_records]
        self._shard_of_row = self._column("shard") + self._first_shards()
        self._places = cache(self._feature_places)
        self._map_shard = cache(map_shard)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self, splits: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of all splits that match one of the patterns (`train*`, `dev-clean`).

        Raises `ConfigError` when a pattern matches no split.
        """
        chosen = self.manifest.chosen_splits(splits, self.folder)
        sizes = [split.utterances for split in self.manifest.splits.values()]
        return np.flatnonzero(np.repeat([name in chosen for name in self.manifest.splits], sizes))

    def column(self, name: str) -> list[str | None]:
        """Return a text column of the index for every row."""
        if name not in self.table.column_names:
            raise InputError(
                f"{self.folder} has no column '{name}': it has {', '.join(self.table.column_names)}"
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
        self.manifest.require_feature(feature, self.folder)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self.table.column("key")[row].as_py())

    def select(self, splits: Iterable[str], weight: float = 1.0) -> "Selection":
        """Return the rows of some splits as what a `Loader` takes; see `rows` and `Selection`."""
        return Selection(self, self.rows(splits), weight)

    def places(self, feature: str) -> FeaturePlaces:
        """Return where the arrays of a feature lie in the shards; one entry a row."""
        return self._places(feature)

    def shard_path(self, row: int) -> Path:
        """Return the file of the shard that holds a row."""
        return self.shard_paths[int(self._shard_of_row[row])]

    def map_shard(self, shard: int) -> NDArray[np.uint8]:
        """Return all bytes of a shard, mapped into memory.

        Raises `IntegrityError` when it is not there any more, or not whole.
        """
        return self._map_shard(self.folder, self._shard_records[shard])

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
            f"{self.shard_path(row)}: the {feature} of '{self.key(row)}' is "
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
            f"the selected rows of {self.dataset.folder} must rise and lie between 0 and "
            f"{len(self.dataset) - 1}",
        )
        require(self.weight > 0, f"a dataset has the weight {self.weight}: give one above 0")


def open_split(folder: Path, split: SplitRecord) -> pa.Table:
    """Map the index of a split after checking it and its shards against the manifest."""
    for record in (split.index, split.statistics, *split.shards):
        check_size(folder, record)
    refuse_extra_shards(folder, split)
    return open_index(folder, split.index)


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


def map_shard(folder: Path, record: FileRecord) -> NDArray[np.uint8]:
    """Map a shard into memory, read-only."""
    with check_size(folder, record).open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
