"""Whether an index makes sense: its columns, its counts, and the places that it names."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aalbert.shards.format.index import index_schema, place_columns, statistics_schema
from aalbert.shards.format.manifest import SplitRecord
from aalbert.shards.verification.problem import Problem

STORED_BYTES = 2
NAMED_ROWS = 10


def index_problems(
    path: Path, table: pa.Table, split: str, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return what is wrong with the index of a split, the first few rows of each kind."""
    base = index_schema([], []).names
    places = [field.name for name in feature_dims for field in place_columns(name)]
    fields = [name for name in table.column_names if name not in {*base, *places}]
    if problem := table_problem(path, table, index_schema(feature_dims, fields)):
        return [problem]
    if table.num_rows != record.utterances:
        what = f"has {table.num_rows:,} rows, the manifest says {record.utterances:,}"
        return [Problem(path, None, what)]
    if not counts_agree(table, split, record):
        what = "does not give every shard the utterances that the manifest says"
        return [Problem(path, None, what)]
    return list(place_problems(path, table, record, feature_dims))


def statistics_problems(
    path: Path, table: pa.Table, record: SplitRecord, feature_dims: Mapping[str, int]
) -> list[Problem]:
    """Return what is wrong with the statistics of a split."""
    if problem := table_problem(path, table, statistics_schema(feature_dims)):
        return [problem]
    if table.num_rows != record.utterances:
        what = f"has {table.num_rows:,} rows, the manifest says {record.utterances:,}"
        return [Problem(path, None, what)]
    return []


def table_problem(path: Path, table: pa.Table, schema: pa.Schema) -> Problem | None:
    """Say whether a table has other columns than it should, or values that are none."""
    if not table.schema.equals(schema):
        names = ", ".join(table.column_names)
        return Problem(path, None, f"has other columns, or other types, than it should: {names}")
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        return Problem(path, None, f"holds values that are none ({error})")
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            return Problem(path, None, f"has rows without {field.name}")
    return None


def counts_agree(table: pa.Table, split: str, record: SplitRecord) -> bool:
    """Say whether the rows belong to the split and lie in the order of its shards."""
    shards = numbers(table, "shard")
    expected = np.repeat(np.arange(len(record.shards)), [s.utterances for s in record.shards])
    same_split = pc.all(pc.equal(table.column("split"), split)).as_py() is not False
    return same_split and np.array_equal(shards, expected)


def place_problems(
    path: Path, table: pa.Table, record: SplitRecord, feature_dims: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield the rows whose features have no place: outside of the shard, or overlapping."""
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
        (np.flatnonzero(lengths != shapes), "bytes that its frames do not take"),
        (np.flatnonzero(outside), "a place outside of its shard"),
        (overlapping, "a place where another array lies"),
    ]
    for found, what in kinds:
        for place in found[:NAMED_ROWS].tolist():
            key = table.column("key")[int(owners[place])].as_py()
            feature = names[place // table.num_rows]
            yield Problem(path, key, f"gives the {feature} of '{key}' {what}")


def repeated_keys(tables: Mapping[Path, pa.Table]) -> list[Problem]:
    """Return the keys that occur more than once in these indexes, the first few."""
    keys = pa.chunked_array([chunk for t in tables.values() for chunk in t.column("key").chunks])
    if pc.count_distinct(keys).as_py() == len(keys):
        return []
    counts = pc.value_counts(keys)
    often = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return [
        Problem(path, key, f"the key '{key}' occurs more than once")
        for key in often.to_pylist()[:NAMED_ROWS]
        for path, table in tables.items()
        if pc.index(table.column("key"), key).as_py() >= 0
    ]


def numbers(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Return a column of whole numbers."""
    values: NDArray[np.int64] = table.column(column).to_numpy().astype(np.int64)
    return values
