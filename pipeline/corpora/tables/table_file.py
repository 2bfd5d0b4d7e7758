"""Tables of text: CSV, TSV, JSON lines and Parquet, all read as text.

No types are guessed: `007` stays `007`.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from aalbert.common.json_files import parse_json
from aalbert.common.text_files import PACKED_SUFFIX, read_text, text_lines
from aalbert.errors import InputError
from aalbert.pipeline.corpora.tables.embedded_audio import embedded_column, read_embedded
from aalbert.pipeline.corpora.tables.lhotse import is_cut, read_cuts
from aalbert.pipeline.corpora.tables.parquet_text import open_parquet, text_rows
from aalbert.pipeline.corpora.tables.table import Row, Table, Values

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
KINDS = f"({', '.join(SUFFIXES)}; text also packed, as .csv{PACKED_SUFFIX})"


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its name."""
    name = path.name.lower()
    return name.endswith(SUFFIXES) or name.removesuffix(PACKED_SUFFIX).endswith(TEXT_SUFFIXES)


def read_table(path: Path) -> Table:
    """Read a table by the suffix of its file. An empty cell of CSV or TSV and a null are None.

    Raises `InputError` when the file is missing, of an unknown kind, empty, damaged, or
    contains anything but text, numbers, booleans and times.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: expected a table {KINDS}")
    if not is_table(path):
        raise InputError(
            f"{path} is not a known kind of table: its name must end in one of {KINDS}"
        )
    name = path.name.lower().removesuffix(PACKED_SUFFIX)
    if name.endswith(".csv"):
        table = read_csv(path)
    elif name.endswith(".tsv"):
        table = read_tsv(path)
    elif name.endswith(".parquet"):
        table = read_parquet(path)
    else:
        objects = read_objects(path)
        is_lhotse = bool(objects) and is_cut(objects[0][1])
        table = read_cuts(objects) if is_lhotse else table_of_objects(objects)
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


def read_csv(path: Path) -> Table:
    """Read comma-separated values with a header, where text in quotes may go over several lines.

    The standard library reads it, since pyarrow reads a quote that is never closed as text
    up to the end of the file, and does not report the line of a row.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    places, lines, begin = [], [], 1
    try:
        for cells in reader:
            places.append(f"{path}:{begin}")
            lines.append(cells)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{begin} cannot be read: {error}") from error
    rows = make_rows(places, lines, "put text with separators into double quotes")
    long = sum("\n" in "".join(cells) or "\r" in "".join(cells) for cells in lines)
    notes = (f"{path}: rows that go over several lines, in double quotes: {long}",) if long else ()
    return Table(columns=tuple(next(filter(None, lines), ())), rows=tuple(rows), notes=notes)


def read_tsv(path: Path) -> Table:
    """Read tab-separated values with a header: a row a line, and quotes are text like any other.

    That is how the format is registered (text/tab-separated-values) and Common Voice written.
    """
    lines = [line.split("\t") if line else [] for line in text_lines(read_text(path))]
    places = [f"{path}:{number}" for number, _ in enumerate(lines, start=1)]
    columns = tuple(next(filter(None, lines), ()))
    if any(name.startswith('"') for name in columns):
        raise InputError(
            f"{path}: the header is in double quotes, which TSV has not: save it as CSV"
        )
    rows = make_rows(places, lines, "cells of TSV hold no tabs and no line breaks")
    return Table(columns=columns, rows=tuple(rows))


def make_rows(places: list[str], lines: list[list[str]], advice: str) -> Iterator[Row]:
    """Yield the rows of a header and the lines after it; empty lines are none."""
    filled = [(place, cells) for place, cells in zip(places, lines, strict=True) if cells]
    for place, cells in filled[1:]:
        columns = filled[0][1]
        if len(cells) != len(columns):
            raise InputError(f"{place} has {len(cells)} cells, the header {len(columns)}: {advice}")
        texts = (cell or None for cell in cells)
        yield Row(place=place, values=dict(zip(columns, texts, strict=True)))


def read_objects(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Return the JSON objects of a file and their places: one a line, or all of them in one array.

    Numbers stay text, as they are written.
    """
    lines = text_lines(read_text(path))
    places = {f"{path}:{number}": line for number, line in enumerate(lines, 1) if line.strip()}
    first = next(iter(places), "")
    if not places.get(first, "").lstrip().startswith("["):
        return [checked_object(place, parse_texts(place, line)) for place, line in places.items()]
    array = parse_texts(first, "\n".join(lines))
    documents = array if isinstance(array, list) else [array]
    return [
        checked_object(f"{path}, object {number}", document)
        for number, document in enumerate(documents, start=1)
    ]


def parse_texts(place: str, text: str) -> object:
    """Parse JSON whose numbers stay text."""
    try:
        document: object = parse_json(text, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise InputError(f"{place} is not JSON: {error}") from error
    return document


def checked_object(place: str, document: object) -> tuple[str, dict[str, object]]:
    """Return a JSON document and its place; `InputError` when it is no object."""
    if not isinstance(document, dict):
        raise InputError(f"{place} is '{json.dumps(document)[:80]}': expected a JSON object")
    return place, document


def table_of_objects(objects: Iterable[tuple[str, dict[str, object]]]) -> Table:
    """Return objects as rows; a column that an object lacks is None there."""
    texts = {
        place: {name: text_of(place, name, value) for name, value in document.items()}
        for place, document in objects
    }
    columns = tuple(dict.fromkeys(name for values in texts.values() for name in values))
    empty: Values = dict.fromkeys(columns)
    rows = (Row(place=place, values={**empty, **values}) for place, values in texts.items())
    return Table(columns=columns, rows=tuple(rows))


def text_of(place: str, name: str, value: object) -> str | None:
    """Return a value of a JSON object, its numbers read as text, as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"{place}: '{name}' is {json.dumps(value)[:80]}: a column holds text or numbers, "
            "no lists or objects"
        )
    return value


def read_parquet(path: Path) -> Table:
    """Read a Parquet file of text, or one with recordings in it."""
    file = open_parquet(path)
    if embedded_column(file.schema_arrow) is not None:
        return read_embedded([path])
    names = tuple(file.schema_arrow.names)
    check_columns(path, names)
    rows = (Row(place=place, values=values) for place, values in text_rows(path, file, names))
    return Table(columns=names, rows=tuple(rows))
