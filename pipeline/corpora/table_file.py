"""Tables of text: CSV, TSV, JSON lines and Parquet, all read as text.

No types are guessed: `007` stays `007`.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aalbert.common.text_files import read_text
from aalbert.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".jsonl", ".parquet")

Values = dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its position (`list.csv:3`), and the text in its columns."""

    place: str
    values: Values


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of a file in their order, and its rows, each with all of them."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """Read a table by the suffix of its file. An empty cell of CSV and a null are None.

    Raises `InputError` when the file is missing, of an unknown kind, empty, damaged, or
    contains anything but text, numbers, booleans and times.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: expected a table ({', '.join(SUFFIXES)})")
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        table = read_separated(path, SEPARATORS[suffix])
    elif suffix == ".jsonl":
        table = read_json_lines(path)
    elif suffix == ".parquet":
        table = read_parquet(path)
    else:
        raise InputError(
            f"{path} is not a known kind of table: its name must end in one of "
            f"({', '.join(SUFFIXES)})"
        )
    check_columns(path, table.columns)
    if not table.rows:
        raise InputError(f"{path} is empty: expected a row for every recording")
    return table


def check_columns(path: Path, columns: tuple[str, ...]) -> None:
    """Raise `InputError` for a column name that is empty, has outer spaces, or is there twice."""
    for number, column in enumerate(columns, start=1):
        if column != column.strip() or not column:
            raise InputError(
                f"{path}: column {number} is named '{column}': give it a name without spaces "
                "at its ends"
            )
        if columns.index(column) != number - 1:
            raise InputError(f"{path} has two columns '{column}': rename one of them")


def read_separated(path: Path, separator: str) -> Table:
    """Read a file with a header and one row per line, or more where quoted text has breaks.

    The standard library reads it, since pyarrow reads a quote that is never closed as text
    up to the end of the file, and does not report the line of a row.
    """
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    rows = []
    columns: list[str] = []
    begin = 1
    try:
        for cells in reader:
            place, begin = f"{path}:{begin}", reader.line_num + 1
            if not columns:
                columns = cells
            elif cells:
                if len(cells) != len(columns):
                    raise InputError(
                        f"{place} has {len(cells)} cells, the header {len(columns)}: "
                        "put text with separators into double quotes"
                    )
                texts = (cell or None for cell in cells)
                rows.append(Row(place=place, values=dict(zip(columns, texts, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}:{begin} cannot be read: {error}") from error
    return Table(columns=tuple(columns), rows=tuple(rows))


def read_json_lines(path: Path) -> Table:
    """Read one JSON object per line; a column that an object lacks is None there."""
    lines = read_text(path).split("\n")
    objects = {
        f"{path}:{number}": read_object(f"{path}:{number}", line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    }
    columns = tuple(dict.fromkeys(name for values in objects.values() for name in values))
    empty = dict.fromkeys(columns)
    return Table(
        columns=columns,
        rows=tuple(
            Row(place=place, values={**empty, **values}) for place, values in objects.items()
        ),
    )


def read_object(place: str, line: str) -> Values:
    """Parse a JSON object of texts; numbers stay as they are written."""
    try:
        document = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{place} is '{line.strip()[:80]}': expected a JSON object")
    return {name: text_of(place, name, value) for name, value in document.items()}


def text_of(place: str, name: str, value: object) -> str | None:
    """Return a value of a JSON object, its numbers read as text, as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"{place}: '{name}' is {json.dumps(value)[:80]}: a column holds text or numbers, "
            "no lists or objects"
        )
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: '{name}' holds half a surrogate pair, no text") from error
    return value


def read_parquet(path: Path) -> Table:
    """Read a Parquet file; rows count from 1."""
    try:
        # Not `pyarrow.parquet.read_table`, which treats folders such as `split=train` as columns.
        table = pq.ParquetFile(path).read()
        names = tuple(table.column_names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a complete Parquet file: {error}") from error
    check_columns(path, names)
    columns = {
        name: column_of_text(path, name, column)
        for name, column in zip(names, table.columns, strict=True)
    }
    return Table(
        columns=tuple(columns),
        rows=tuple(
            Row(place=f"{path}, row {number}", values=dict(zip(columns, values, strict=True)))
            for number, values in enumerate(zip(*columns.values(), strict=True), start=1)
        ),
    )


def column_of_text(path: Path, name: str, column: pa.ChunkedArray) -> list[str | None]:
    """Return a column as text; `InputError` when it is nested or holds bytes."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or is_bytes(kind):
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


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a type holds bytes that need not be text."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
