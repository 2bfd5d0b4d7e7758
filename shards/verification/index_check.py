"""The checks of an index: its columns, its counts, and the locations of the arrays."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aalbert.shards.format.index import index_schema, location_columns, statistics_schema
from aalbert.shards.format.manifest import SplitRecord
from aalbert.shards.verification.problem import Problem

STORED_BYTES = 2
REPORTED_ROWS = 10


def index_problems(
    path: str, table: pa.Table, split: str, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return the problems of the index of a split: of each kind, those of the first few rows."""
    base = index_schema([], []).names
    locations = [field.name for name in feature_dims for field in location_columns(name)]
    fields = [name for name in table.column_names if name not in {*base, *locations}]
    schema = index_schema(feature_dims, fields)
    if problem := table_problem(path, table, schema, record.utterances):
        return [problem]
    shards = np.repeat(np.arange(len(record.shards)), [s.utterances for s in record.shards])
    same_split = pc.all(pc.equal(table.column("split"), split)).as_py() is not False
    if not same_split or not np.array_equal(numbers(table, "shard"), shards):
        what = "does not give every shard the utterances that the manifest says"
        return [Problem(path, None, what)]
    return list(location_problems(path, table, record, feature_dims))


def statistics_problems(
    path: str, table: pa.Table, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return the problems of the statistics of a split."""
    problem = table_problem(path, table, statistics_schema(feature_dims), record.utterances)
    return [problem] if problem else []


def table_problem(path: str, table: pa.Table, schema: pa.Schema, rows: int) -> Problem | None:
    """Return the first problem of a table's columns, values or number of rows, if there is one."""
    if not table.schema.equals(schema):
        names = ", ".join(table.column_names)
        return Problem(path, None, f"has other columns, or other types, than it should: {names}")
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        return Problem(path, None, f"holds invalid values ({error})")
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            return Problem(path, None, f"has rows without {field.name}")
    if table.num_rows != rows:
        return Problem(path, None, f"has {table.num_rows:,} rows, the manifest says {rows:,}")
    return None


def location_problems(
    path: str, table: pa.Table, record: SplitRecord, feature_dims: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield the rows whose arrays have a wrong size, lie outside of the shard, or overlap."""
    names = list(feature_dims)
    rows = np.arange(table.num_rows)
    sizes = np.repeat([s.size for s in record.shards], [s.utterances for s in record.shards])
    starts = np.concatenate([numbers(table, f"{name}_offset") for name in names])
    lengths = np.concatenate([numbers(table, f"{name}_bytes") for name in names])
    shapes = np.concatenate(
        [numbers(table, f"{name}_frames") * feature_dims[name] * STORED_BYTES for name in names]
    )
    outside = (starts < 0) | (lengths < 0) | (starts > np.tile(sizes, len(names)) - lengths)
    owners = np.tile(rows, len(names))
    order = np.lexsort((starts, np.tile(numbers(table, "shard"), len(names))))
    ends = starts + lengths
    same_shard = np.diff(np.tile(numbers(table, "shard"), len(names))[order]) == 0
    overlapping = order[1:][same_shard & (starts[order][1:] < ends[order][:-1])]
    kinds: list[tuple[NDArray[np.int64], str]] = [
        (np.flatnonzero(lengths != shapes), "a size that does not match its frames"),
        (np.flatnonzero(outside), "a location outside of its shard"),
        (overlapping, "a location that overlaps another array"),
    ]
    for found, what in kinds:
        for index in found[:REPORTED_ROWS].tolist():
            key = table.column("key")[int(owners[index])].as_py()
            feature = names[index // table.num_rows]
            yield Problem(path, key, f"gives the {feature} of '{key}' {what}")


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
