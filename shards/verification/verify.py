"""The verification of a dataset: every byte of every file, and no other files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from aalbert.common.files import TEMPORARY_SUFFIX, file_digest
from aalbert.errors import IntegrityError
from aalbert.shards.format.index import read_index
from aalbert.shards.format.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    SplitRecord,
    manifest_path,
    read_manifest,
)
from aalbert.shards.verification.index_check import (
    index_problems,
    repeated_keys,
    statistics_problems,
)
from aalbert.shards.verification.problem import Problem
from aalbert.shards.verification.shard_check import REPORTED_PIECES, ShardComparison, layout_of

ROWS_AT_A_TIME = 256
CHANGED = "is not what was written (checksum)"


def verify(folder: Path, advance: Callable[[int], object] = lambda _: None) -> list[Problem]:
    """Compare every byte of a dataset with what was written, and return the problems.

    `advance` is called repeatedly with the number of bytes read since the last call. Nothing in
    the files is unpickled or unpacked. Raises `InputError` when the folder is not a complete
    dataset.
    """
    path = manifest_path(folder)
    try:
        manifest = read_manifest(folder)
        advance(path.stat().st_size)
    except IntegrityError as error:
        what = str(error).removeprefix(f"{path} ").partition(";")[0]
        return [Problem(path, None, f"{what} (without it no other file can be checked)")]
    return Verification(folder, manifest, advance).run()


def dataset_files(folder: Path) -> list[Path]:
    """Return every file below a dataset's folder; raise `InputError` when it is not a dataset."""
    manifest_path(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Verification:
    """The checks of one dataset. `indexes` holds the undamaged indexes, by split."""

    folder: Path
    manifest: Manifest
    advance: Callable[[int], object]
    indexes: dict[str, pa.Table] = field(default_factory=dict)

    def run(self) -> list[Problem]:
        """Return the problems of small files, indexes and shards, and the unexpected files."""
        problems: list[Problem] = []
        for record in (*self.manifest.attachments, *self.manifest.documents):
            problems += self.check_file(record)
        for name, split in self.manifest.splits.items():
            problems += self.check_index(name, split)
        problems += self.check_keys()
        for name, split in self.manifest.splits.items():
            counts = (shard.utterances for shard in split.shards)
            for first, shard in zip(accumulate(counts, initial=0), split.shards, strict=False):
                problems += self.check_shard(name, first, shard)
        return [*problems, *unrecorded_files(self.folder, self.manifest)]

    def check_file(self, record: FileRecord) -> list[Problem]:
        """Check size and hash of a file."""
        path = self.folder / record.path
        if problems := size_problems(path, record):
            return problems
        try:
            digest = file_digest(path)
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
        dims = {feature: settings.dims for feature, settings in self.manifest.features.items()}
        path = self.folder / split.index.path
        statistics_path = self.folder / split.statistics.path
        problems = self.check_file(split.index)
        of_statistics = self.check_file(split.statistics)
        try:
            if not problems:
                table = read_index(path)
                problems = index_problems(path, table, name, split, dims)
                if not problems:
                    self.indexes[name] = table
            if not of_statistics:
                statistics = read_index(statistics_path)
                of_statistics = statistics_problems(statistics_path, statistics, split, dims)
        except IntegrityError as error:
            problems.append(Problem(path.parent, None, f"holds what cannot be read: {error}"))
        return problems + of_statistics

    def check_keys(self) -> list[Problem]:
        """Check that no key occurs twice in the dataset."""
        splits = self.manifest.splits
        if not self.indexes:
            return []
        return repeated_keys(
            {self.folder / splits[name].index.path: table for name, table in self.indexes.items()}
        )

    def check_shard(self, split: str, first: int, record: ShardRecord) -> list[Problem]:
        """Check a shard whose utterances begin at row `first` of the index of its split."""
        path = self.folder / record.path
        size = size_problems(path, record)
        try:
            with path.open("rb") as stream:
                comparison = ShardComparison(path, stream, self.advance)
                if split in self.indexes:
                    table = self.indexes[split].slice(first, record.utterances)
                    dims = {name: each.dims for name, each in self.manifest.features.items()}
                    rows = (
                        row
                        for batch in table.to_batches(max_chunksize=ROWS_AT_A_TIME)
                        for row in batch.to_pylist()
                    )
                    comparison.compare(layout_of(dims, table.column_names), rows)
                digest = comparison.finish()
        except OSError as error:
            return size or [unreadable(path, error)]
        if digest != record.xxh3 and (other := self.find_by_hash(digest)):
            return [Problem(path, None, f"holds what was written as {other.path}")]
        problems = [*size, *comparison.problems[:REPORTED_PIECES]]
        more = len(comparison.problems) - REPORTED_PIECES
        if more > 0:
            problems.append(Problem(path, None, f"and {more:,} more places in it"))
        if digest != record.xxh3 and not problems:
            return [Problem(path, None, CHANGED)]
        return problems

    def find_by_hash(self, digest: str) -> FileRecord | None:
        """Return the file of the dataset that was written with this hash, if there is one."""
        return next((record for record in self.manifest.files if record.xxh3 == digest), None)


def size_problems(path: Path, record: FileRecord) -> list[Problem]:
    """Return the problem of a file that is missing or has another size."""
    if not path.is_file():
        return [Problem(path, None, "is missing")]
    size = path.stat().st_size
    if size == record.size:
        return []
    what = f"has {size:,} bytes, {record.size:,} were written"
    return [Problem(path, min(size, record.size), what)]


def unreadable(path: Path, error: OSError) -> Problem:
    """Return the problem of a file that the operating system cannot read."""
    return Problem(path, None, f"cannot be read ({error.strerror})")


def unrecorded_files(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Yield a problem for each file in the folder that the manifest does not record."""
    recorded = {folder / record.path for record in manifest.files} | {folder / MANIFEST_NAME}
    parents = {parent for path in recorded for parent in path.parents}
    for path in sorted(folder.rglob("*")):
        is_folder = path.is_dir() and not path.is_symlink()
        if path in recorded or path in parents or is_folder:
            continue
        unfinished = " (a file that was never finished)" if path.suffix == TEMPORARY_SUFFIX else ""
        yield Problem(path, None, f"does not belong to the dataset{unfinished}: delete or move it")
