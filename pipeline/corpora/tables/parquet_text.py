"""Columns of Parquet files as text."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aalbert.errors import InputError
from aalbert.pipeline.corpora.tables.table import Values


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file, of which folders such as `split=train` are no columns.

    Raises `InputError` when it is not a complete Parquet file.
    """
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a complete Parquet file: {error}") from error


def text_rows(
    path: Path, file: pq.ParquetFile, names: Sequence[str]
) -> Iterator[tuple[str, Values]]:
    """Yield the place of every row, counted from 1, and the text in some columns.

    Raises `InputError` for a column that is nested or holds bytes.
    """
    try:
        table = file.read(list(names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a complete Parquet file: {error}") from error
    columns = [column_of_text(path, name, table.column(name)) for name in names]
    for number in range(table.num_rows):
        values = {name: column[number] for name, column in zip(names, columns, strict=True)}
        yield f"{path}, row {number + 1}", values


def column_of_text(path: Path, name: str, column: pa.ChunkedArray) -> list[str | None]:
    """Return a column as text; `InputError` when it is nested or holds bytes."""
    if not is_text(column.type):
        raise InputError(
            f"{path}: column '{name}' is of the type {column.type}: a column holds text or "
            "numbers, no lists, objects or bytes; leave it out"
        )
    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: column '{name}' of the type {column.type} cannot be read as text: {error}"
        ) from error
    return texts


def is_text(kind: pa.DataType) -> bool:
    """Return whether the values of a type can be written as text."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (pa.types.is_nested(value) or is_bytes(value))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a type holds bytes that need not be text."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
