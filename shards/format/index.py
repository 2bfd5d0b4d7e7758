"""The index: one Arrow row per utterance, with the location of its features in the shards.

Each split has a second file with the same rows, the statistics: mean and standard deviation of
every feature. They are most of the bytes and only training reads them, so opening a dataset does
not read them.
"""

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aalbert.common.files import atomic_write
from aalbert.errors import IntegrityError

FORMAT_VERSION = 1
VERSION_KEY = b"aalbert_format_version"
VERSION_METADATA = {VERSION_KEY: str(FORMAT_VERSION).encode()}


def index_schema(features: Iterable[str], fields: Iterable[str]) -> pa.Schema:
    """Return the schema of an index with these features and corpus fields."""
    columns = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sample_rate", pa.int32(), nullable=False),
        pa.field("source_channels", pa.int32(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),
    ]
    columns += [pa.field(name, pa.string()) for name in fields]
    for name in features:
        columns += location_columns(name)
    return pa.schema(columns, metadata=VERSION_METADATA)


def statistics_schema(feature_dims: Mapping[str, int]) -> pa.Schema:
    """Return the schema of the statistics of these features (name -> dims).

    `mean` and `std` are per dimension over the utterance's frames.
    """
    columns = [
        pa.field(f"{name}_{statistic}", pa.list_(pa.float32(), dims), nullable=False)
        for name, dims in feature_dims.items()
        for statistic in ("mean", "std")
    ]
    return pa.schema(columns, metadata=VERSION_METADATA)


def row_schema(feature_dims: Mapping[str, int], fields: Iterable[str]) -> pa.Schema:
    """Return the schema of the rows that the shard writer makes: index and statistics."""
    index, statistics = index_schema(feature_dims, fields), statistics_schema(feature_dims)
    return pa.schema([*index, *statistics], metadata=VERSION_METADATA)


def location_columns(name: str) -> list[pa.Field]:
    """Return the columns that locate one stored feature.

    `offset` and `bytes` locate the array itself, after its `.npy` header; `xxh3` is the hash of
    these bytes.
    """
    return [
        pa.field(f"{name}_offset", pa.int64(), nullable=False),
        pa.field(f"{name}_bytes", pa.int64(), nullable=False),
        pa.field(f"{name}_frames", pa.int32(), nullable=False),
        pa.field(f"{name}_xxh3", pa.uint64(), nullable=False),
    ]


def write_index(path: Path, table: pa.Table) -> None:
    """Write an index, or statistics, as an Arrow IPC file, atomically."""
    with (
        atomic_write(path) as stream,
        pa.ipc.new_file(stream, table.schema) as writer,
    ):
        writer.write_table(table)


def read_index(path: Path) -> pa.Table:
    """Map an index, or statistics, into memory: of a million utterances it is too large to read.

    The caller compares size and hash before. Nobody shortens a finished index: files of ours are
    replaced, never changed, and who has the old one mapped keeps it whole.

    Raises `IntegrityError` when the file is missing, damaged or of another format version.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        # Names are decoded when they are asked for.
        _ = table.column_names
    # Of damage pyarrow raises each of its own errors, and system errors that have no number.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise
        raise IntegrityError(f"{path} is missing or damaged ({error}); prepare again") from error
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode("utf-8", "replace")
    if version != str(FORMAT_VERSION):
        raise IntegrityError(
            f"{path} has format version {version}, this aalbert reads {FORMAT_VERSION}; "
            "prepare the data again or use the version that wrote it"
        )
    return table


def frame_counts(table: pa.Table, feature: str) -> NDArray[np.int64]:
    """Return the number of frames of each row of an index."""
    counts: NDArray[np.int64] = table.column(f"{feature}_frames").to_numpy().astype(np.int64)
    return counts
