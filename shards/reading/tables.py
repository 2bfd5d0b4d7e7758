"""Indexes and statistics, mapped after a look at what would otherwise end a reader later.

Their checksums say that nobody changed them. What follows them, counts and locations, is compared
all the same: a checksum can be computed anew. `aalbert shards verify` compares everything.
"""

from pathlib import Path

import pyarrow as pa

from aalbert.common.files import file_digest
from aalbert.errors import IntegrityError
from aalbert.shards.format.index import read_index, statistics_schema
from aalbert.shards.format.index_check import (
    location_problems,
    structure_problem,
    table_problem,
)
from aalbert.shards.format.manifest import FileRecord, Manifest
from aalbert.shards.format.problem import Problem


def open_index(folder: Path, manifest: Manifest) -> pa.Table:
    """Map the indexes of all splits, one after another; `IntegrityError` for one that is wrong."""
    tables: list[pa.Table] = []
    for name, split in manifest.splits.items():
        table, path = open_table(folder, split.index), str(folder / split.index.path)
        require_none(structure_problem(path, table, name, split, manifest.feature_dims), folder)
        if tables and not table.schema.equals(tables[0].schema):
            require_none(
                Problem(path, None, "has other columns than that of another split"), folder
            )
        tables.append(table)
    return pa.concat_tables(tables)


def open_statistics(folder: Path, manifest: Manifest) -> pa.Table:
    """Map the statistics of all splits, with the rows of the index."""
    schema = statistics_schema(manifest.feature_dims)
    tables = []
    for split in manifest.splits.values():
        table, path = open_table(folder, split.statistics), str(folder / split.statistics.path)
        require_none(table_problem(path, table, schema, split.utterances), folder)
        tables.append(table)
    return pa.concat_tables(tables)


def check_locations(folder: Path, manifest: Manifest, index: pa.Table, feature: str) -> None:
    """Raise `IntegrityError` unless every array lies in its shard, with the bytes of its frames."""
    dims = {feature: manifest.feature_dims[feature]}
    start = 0
    for split in manifest.splits.values():
        path, table = str(folder / split.index.path), index.slice(start, split.utterances)
        require_none(next(location_problems(path, table, split.shards, dims), None), folder)
        start += split.utterances


def open_table(folder: Path, record: FileRecord) -> pa.Table:
    """Map an index, or statistics, after comparing its hash with that in the manifest."""
    path = folder / record.path
    if file_digest(path) != record.xxh3:
        raise IntegrityError(
            f"{path} is not what was written (checksum); restore it, or delete "
            f"{folder} and prepare the data again"
        )
    return read_index(path)


def require_none(problem: Problem | None, folder: Path) -> None:
    """Raise `IntegrityError` for a problem."""
    if problem:
        raise IntegrityError(
            f"{problem}; restore it, or delete {folder} and prepare the data again"
        )
