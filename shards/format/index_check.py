"""The checks of an index: its columns, its counts, and the locations of the arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aalbert.shards.format.index import index_schema, location_columns, statistics_schema
from aalbert.shards.format.manifest import ShardRecord, SplitRecord
from aalbert.shards.format.problem import Problem
from aalbert.shards.format.tar import NAME_BYTES

STORED_BYTES = 2
REPORTED_ROWS = 10


def index_problems(
    path: str, table: pa.Table, split: str, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return the problems of the index of a split: of each kind, those of the first few rows."""
    problem = structure_problem(path, table, split, record, feature_dims) or invalid(path, table)
    if problem:
        return [problem]
    locations = location_problems(path, table, record.shards, feature_dims)
    return [
        *locations,
        *overlaps(path, table, feature_dims),
        *impossible_keys(path, table, feature_dims),
    ]


def statistics_problems(
    path: str, table: pa.Table, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return the problems of the statistics of a split."""
    schema = statistics_schema(feature_dims)
    problem = table_problem(path, table, schema, record.utterances) or invalid(path, table)
    if problem:
        return [problem]
    return [
        Problem(path, None, f"has numbers in {name} that are not finite")
        for name in schema.names
        if not np.isfinite(table.column(name).combine_chunks().flatten().to_numpy()).all()
    ]


def structure_problem(
    path: str, table: pa.Table, split: str, record: SplitRecord, feature_dims: Mapping[str, int]
) -> Problem | None:
    """Return the first thing that makes an index unusable, found without reading all of it."""
    base = index_schema([], []).names
    locations = [field.name for name in feature_dims for field in location_columns(name)]
    fields = [name for name in table.column_names if name not in {*base, *locations}]
    schema = index_schema(feature_dims, fields)
    if problem := table_problem(path, table, schema, record.utterances):
        return problem
    shards = np.repeat(np.arange(len(record.shards)), [s.utterances for s in record.shards])
    same_split = pc.all(pc.equal(table.column("split"), split)).as_py() is not False
    if not same_split or not np.array_equal(numbers(table, "shard"), shards):
        what = "does not give every shard the utterances that the manifest says"
        return Problem(path, None, what)
    return None


def table_problem(path: str, table: pa.Table, schema: pa.Schema, rows: int) -> Problem | None:
    """Return the first problem of a table's columns or number of rows, if there is one.

    After it no value leads a reader outside of the file; they may still be no text.
    """
    if not table.schema.equals(schema):
        names = ", ".join(table.column_names)
        return Problem(path, None, f"has other columns, or other types, than it should: {names}")
    if problem := invalid(path, table, full=False):
        return problem
    for field in schema:
        column = table.column(field.name)
        if any(runs_backwards(chunk) for chunk in column.chunks):
            return Problem(path, None, f"holds invalid values (places of {field.name})")
        if not field.nullable and (column.null_count or has_gaps(column)):
            return Problem(path, None, f"has rows without {field.name}")
    if table.num_rows != rows:
        return Problem(path, None, f"has {table.num_rows:,} rows, the manifest says {rows:,}")
    return None


def has_gaps(column: pa.ChunkedArray) -> bool:
    """Return whether lists hold places without a value."""
    is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    return is_list and any(chunk.flatten().null_count for chunk in column.chunks)


def runs_backwards(array: pa.Array) -> bool:
    """Return whether a text or list, or a text in a list, ends before it begins.

    Of where they begin and end, Arrow's quick look sees the first and the last alone.
    """
    is_list = pa.types.is_list(array.type)
    if not (is_list or pa.types.is_string(array.type)) or not len(array):
        return False
    places = np.frombuffer(array.buffers()[1], np.int32)[: len(array) + 1]
    return bool((places[1:] < places[:-1]).any()) or (is_list and runs_backwards(array.values))


def invalid(path: str, table: pa.Table, *, full: bool = True) -> Problem | None:
    """Return the problem of a table with values that its types do not allow."""
    try:
        table.validate(full=full)
    except pa.ArrowInvalid as error:
        return Problem(path, None, f"holds invalid values ({error})")
    return None


def location_problems(
    path: str, table: pa.Table, shards: Sequence[ShardRecord], feature_dims: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield the rows whose arrays have a wrong size or lie outside of their shard."""
    sizes = np.array([shard.size for shard in shards], np.int64)[numbers(table, "shard")]
    for name, dims in feature_dims.items():
        starts, lengths, frames = (
            numbers(table, f"{name}_{column}") for column in ("offset", "bytes", "frames")
        )
        outside = (starts < 0) | (lengths < 0) | (starts > sizes - lengths)
        wrong = (lengths != frames * dims * STORED_BYTES) | (frames < 1)
        yield from of_rows(path, table, name, wrong, "a size that does not match its frames")
        yield from of_rows(path, table, name, outside, "a location outside of its shard")


def overlaps(path: str, table: pa.Table, feature_dims: Mapping[str, int]) -> Iterator[Problem]:
    """Yield the rows whose arrays share bytes with another array."""
    names = list(feature_dims)
    shards = np.tile(numbers(table, "shard"), len(names))
    starts = np.concatenate([numbers(table, f"{name}_offset") for name in names])
    lengths = np.concatenate([numbers(table, f"{name}_bytes") for name in names])
    order = np.lexsort((starts, shards))
    within = starts[order][1:] - starts[order][:-1] < lengths[order][:-1]
    shared = np.zeros(len(starts), bool)
    shared[order[1:]] = (np.diff(shards[order]) == 0) & within
    for name, rows in zip(names, np.split(shared, len(names)), strict=True):
        yield from of_rows(path, table, name, rows, "a location that overlaps another array")


def of_rows(
    path: str, table: pa.Table, feature: str, found: NDArray[np.bool_], what: str
) -> Iterator[Problem]:
    """Yield the problem of the first few of these rows."""
    for row in np.flatnonzero(found)[:REPORTED_ROWS].tolist():
        key = table.column("key")[row].as_py()
        yield Problem(path, key, f"gives the {feature} of '{key}' {what}")


def impossible_keys(path: str, table: pa.Table, features: Iterable[str]) -> list[Problem]:
    """Return the first few keys that the names of members have no room for."""
    longest = max((f".{name}.npy" for name in features), key=len)
    room = NAME_BYTES - max(len(longest), len(".json"))
    too_long = pc.greater(pc.binary_length(table.column("key")), room)
    return [
        Problem(path, key, f"the key '{key}' is longer than a member's name may be")
        for key in table.column("key").filter(too_long).to_pylist()[:REPORTED_ROWS]
    ]


def repeated_keys(tables: Mapping[str, pa.Table]) -> list[Problem]:
    """Return the first few keys that occur more than once in these indexes."""
    keys = pa.chunked_array([chunk for t in tables.values() for chunk in t.column("key").chunks])
    if pc.count_distinct(keys).as_py() == len(keys):
        return []
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return [
        Problem(path, key, f"the key '{key}' occurs more than once")
        for key in repeated.to_pylist()[:REPORTED_ROWS]
        for path, table in tables.items()
        if pc.index(table.column("key"), key).as_py() >= 0
    ]


def numbers(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Return a column of whole numbers."""
    values: NDArray[np.int64] = table.column(column).to_numpy().astype(np.int64)
    return values
