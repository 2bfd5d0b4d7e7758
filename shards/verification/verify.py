"""The verification of a dataset: every byte of every file, and no other files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from aalbert.common.files import file_digest
from aalbert.common.store import has_final_name
from aalbert.errors import IntegrityError
from aalbert.shards.format.dataset_folder import MANIFEST_NAME
from aalbert.shards.format.index import read_index
from aalbert.shards.format.index_check import (
    index_problems,
    repeated_keys,
    statistics_problems,
)
from aalbert.shards.format.manifest import (
    SKIPPED_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    SplitRecord,
    parse_manifest,
)
from aalbert.shards.format.problem import Problem
from aalbert.shards.reading.place import Place, open_place
from aalbert.shards.reading.shard_cache import is_complete
from aalbert.shards.verification.shard_check import (
    REPORTED_PIECES,
    ShardComparison,
    Statistics,
    layout_of,
)
from aalbert.shards.verification.values_check import (
    frame_problems,
    pooled_problems,
    recorded_statistics,
    split_problems,
)

ROWS_AT_A_TIME = 256
CHANGED = "is not what was written (checksum)"
COPY_CHANGED = "is a damaged copy of {} (checksum): delete it, and it is fetched again"


def verify(
    place: Place | Path | str, advance: Callable[[int], object] = lambda _: None
) -> list[Problem]:
    """Compare every byte of a dataset with what was written, and return the problems.

    The files of a store are fetched one by one, never taken from the cache; the shards in the
    cache, which training would read, are checked too. `advance` is called repeatedly with the
    number of bytes of the dataset read since the last call. Nothing in the files is unpickled
    or unpacked. Raises `InputError` when the place is not a complete dataset, `StorageError` when
    a store does not answer.
    """
    place = open_place(place) if isinstance(place, Path | str) else place
    content = place.manifest()
    path = in_place(place, MANIFEST_NAME)
    try:
        manifest = parse_manifest(content, place.name)
        advance(len(content))
    except IntegrityError as error:
        what = str(error).removeprefix(f"{path} ").partition(";")[0]
        return [Problem(path, None, f"{what} (without it no other file can be checked)")]
    return Verification(place, manifest, advance).run()


def file_sizes(place: Place) -> dict[str, int]:
    """Return the bytes of every file of a dataset; raise `InputError` when there is none."""
    place.manifest()
    sizes = {path: place.size(path) for path in place.entries()}
    return {path: size for path, size in sizes.items() if size is not None}


def in_place(place: Place, path: str) -> str:
    """Return the whole path or URL of a file, for messages."""
    return f"{place.name.rstrip('/')}/{path}"


@dataclass(frozen=True)
class Verification:
    """The checks of one dataset. `indexes` and `statistics` hold the undamaged ones, by split."""

    place: Place
    manifest: Manifest
    advance: Callable[[int], object]
    indexes: dict[str, pa.Table] = field(default_factory=dict)
    statistics: dict[str, pa.Table] = field(default_factory=dict)

    def run(self) -> list[Problem]:
        """Return the problems of small files, indexes and shards, and the unexpected files."""
        problems: list[Problem] = []
        for record in (*self.manifest.attachments, *self.manifest.documents):
            problems += self.check_file(record)
        for name, split in self.manifest.splits.items():
            problems += self.check_index(name, split)
        problems += self.check_keys()
        problems += self.check_totals()
        for name, split in self.manifest.splits.items():
            counts = (shard.utterances for shard in split.shards)
            for first, shard in zip(accumulate(counts, initial=0), split.shards, strict=False):
                problems += self.check_shard(name, first, shard)
                problems += self.check_copy(shard)
        return [*problems, *unrecorded_files(self.place, self.manifest)]

    def check_file(self, record: FileRecord) -> list[Problem]:
        """Check size and hash of a file."""
        if problems := self.check_size(record):
            return problems
        with self.place.local_file(record.path) as file:
            if (problems := self.check_hash(record, file)) or record.path != SKIPPED_NAME:
                return problems
            return self.check_skipped(file)

    def check_skipped(self, file: Path) -> list[Problem]:
        """Check the number of skipped inputs, of which `file` has a line each."""
        lines, recorded = file.read_bytes().count(b"\n"), self.manifest.skipped
        if lines == recorded:
            return []
        what = f"lists {lines:,} inputs, of {recorded:,} skipped ones in the manifest"
        return [Problem(in_place(self.place, SKIPPED_NAME), None, what)]

    def check_size(self, record: FileRecord) -> list[Problem]:
        """Check that a file is there, with its size."""
        path, size = in_place(self.place, record.path), self.place.size(record.path)
        if size is None:
            return [Problem(path, None, "is missing")]
        if size == record.size:
            return []
        what = f"has {size:,} bytes, {record.size:,} were written"
        return [Problem(path, min(size, record.size), what)]

    def check_hash(self, record: FileRecord, file: Path) -> list[Problem]:
        """Check the hash of a file that lies in `file`."""
        path = in_place(self.place, record.path)
        try:
            digest = file_digest(file)
        except OSError as error:
            return [unreadable(path, error)]
        self.advance(record.size)
        if digest == record.xxh3:
            return []
        other = self.find_by_hash(digest)
        what = f"holds what was written as {other.path}" if other else CHANGED
        return [Problem(path, None, what)]

    def check_index(self, name: str, split: SplitRecord) -> list[Problem]:
        """Check index and statistics of a split: their bytes, then their contents."""
        dims = self.manifest.feature_dims
        path = in_place(self.place, split.index.path)

        def of_index(table: pa.Table) -> list[Problem]:
            problems = index_problems(path, table, name, split, dims)
            if not problems:
                self.indexes[name] = table
                whats = frame_problems(self.manifest, table)
                return [Problem(path, None, what) for what in whats]
            return problems

        def of_statistics(table: pa.Table) -> list[Problem]:
            statistics_path = in_place(self.place, split.statistics.path)
            problems = statistics_problems(statistics_path, table, split, dims)
            if not problems:
                self.statistics[name] = table
            return problems

        return [
            *self.check_table(split.index, of_index),
            *self.check_table(split.statistics, of_statistics),
        ]

    def check_table(
        self, record: FileRecord, check: Callable[[pa.Table], list[Problem]]
    ) -> list[Problem]:
        """Check the bytes of an Arrow file, then its contents.

        A table stays mapped when the copy that it was read from is deleted.
        """
        if problems := self.check_size(record):
            return problems
        with self.place.local_file(record.path) as file:
            if problems := self.check_hash(record, file):
                return problems
            try:
                return check(read_index(file))
            except IntegrityError as error:
                path = in_place(self.place, record.path)
                return [Problem(path, None, f"holds what cannot be read: {error}")]

    def check_keys(self) -> list[Problem]:
        """Check that no key occurs twice in the dataset."""
        splits = self.manifest.splits
        if not self.indexes:
            return []
        return repeated_keys(
            {
                in_place(self.place, splits[name].index.path): table
                for name, table in self.indexes.items()
            }
        )

    def check_totals(self) -> list[Problem]:
        """Check what the manifest says of all utterances of a split, or of the dataset."""
        manifest = self.manifest
        found: list[str] = []
        for name, table in self.indexes.items():
            found += split_problems(manifest, name, table)
        if self.indexes.keys() == self.statistics.keys() == manifest.splits.keys():
            indexes, statistics = self.indexes.values(), self.statistics.values()
            found += pooled_problems(manifest, list(indexes), list(statistics))
        return [Problem(in_place(self.place, MANIFEST_NAME), None, what) for what in found]

    def check_shard(self, split: str, first: int, record: ShardRecord) -> list[Problem]:
        """Check a shard whose utterances begin at row `first` of the index of its split."""
        size = self.check_size(record)
        if self.place.size(record.path) is None:
            return size
        with self.place.local_file(record.path) as file:
            return self.compare_shard(split, first, record, file, size)

    def compare_shard(
        self, split: str, first: int, record: ShardRecord, file: Path, size: list[Problem]
    ) -> list[Problem]:
        """Compare a shard that lies in `file`, and whose size has the problems `size`."""
        path = in_place(self.place, record.path)
        try:
            with file.open("rb") as stream:
                comparison = ShardComparison(path, stream, self.advance)
                if split in self.indexes:
                    layout = layout_of(self.manifest.feature_dims, self.indexes[split].column_names)
                    utterances = self.utterances(split, first, record.utterances)
                    comparison.compare(layout, utterances)
                digest = comparison.finish()
        except OSError as error:
            return size or [unreadable(path, error)]
        if digest != record.xxh3 and (other := self.find_by_hash(digest)):
            return [Problem(path, None, f"holds what was written as {other.path}")]
        problems = [*size, *comparison.problems[:REPORTED_PIECES]]
        if not problems and comparison.end is not None and record.size > comparison.end:
            more = record.size - comparison.end
            problems.append(Problem(path, comparison.end, f"has {more:,} bytes after its end"))
        others = len(comparison.problems) - REPORTED_PIECES
        if others > 0:
            problems.append(Problem(path, None, f"and {others:,} more places in it"))
        if digest != record.xxh3 and not problems:
            return [Problem(path, None, CHANGED)]
        return problems

    def utterances(
        self, split: str, first: int, count: int
    ) -> Iterator[tuple[dict[str, Any], Statistics]]:
        """Yield the index row of each of these utterances, with its statistics if known."""
        for start in range(first, first + count, ROWS_AT_A_TIME):
            size = min(ROWS_AT_A_TIME, first + count - start)
            rows = self.indexes[split].slice(start, size).to_pylist()
            recorded = {}
            if split in self.statistics:
                table = self.statistics[split].slice(start, size)
                recorded = recorded_statistics(table, self.manifest.feature_dims)
            for number, row in enumerate(rows):
                yield row, {name: each[number] for name, each in recorded.items()}

    def check_copy(self, record: ShardRecord) -> list[Problem]:
        """Check the copy of a shard in the cache, if there is one that would be used."""
        copy = self.place.cached_copy(record.path)
        if copy is None or not is_complete(copy, record):
            return []
        try:
            digest = file_digest(copy)
        except FileNotFoundError:  # another process has made room
            return []
        what = COPY_CHANGED.format(in_place(self.place, record.path))
        return [] if digest == record.xxh3 else [Problem(str(copy), None, what)]

    def find_by_hash(self, digest: str) -> FileRecord | None:
        """Return the file of the dataset that was written with this hash, if there is one."""
        return next((record for record in self.manifest.files if record.xxh3 == digest), None)


def unreadable(path: str, error: OSError) -> Problem:
    """Return the problem of a file that the operating system cannot read."""
    return Problem(path, None, f"cannot be read ({error.strerror})")


def unrecorded_files(place: Place, manifest: Manifest) -> Iterator[Problem]:
    """Yield a problem for each file at the place that the manifest does not record."""
    recorded = {record.path for record in manifest.files} | {MANIFEST_NAME}
    # A folder of the dataset may be a link.
    parents = {str(parent) for path in recorded for parent in PurePosixPath(path).parents}
    for path in place.entries():
        if path in recorded or path in parents:
            continue
        unfinished = "" if has_final_name(path) else " (a file that was never finished)"
        what = f"does not belong to the dataset{unfinished}: delete or move it"
        yield Problem(in_place(place, path), None, what)
