"""Parquet that holds the bytes of recordings, as Hugging Face's `datasets` writes it.

`prepare` reads utterances in an order of its own, and of Parquet only whole groups of rows can be
read. So the bytes are copied once, one after another, into a file in the user's cache.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, chain
from pathlib import Path, PurePath
from typing import Annotated, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from annotated_types import Ge

from aalbert.common.files import (
    atomic_write,
    cache_folder,
    is_side_file,
    plain_file,
    remove_unfinished,
    write_text,
)
from aalbert.common.json_files import read_record
from aalbert.common.locking import flock
from aalbert.common.progress import progress_bar
from aalbert.common.signals import stop_if_asked, stoppable
from aalbert.errors import InputError, IntegrityError
from aalbert.pipeline.corpora.names import KEY_PATTERN
from aalbert.pipeline.corpora.tables.parquet_text import is_bytes, is_text, open_parquet, text_rows
from aalbert.pipeline.corpora.tables.table import Row, StoredBytes, Table

SUFFIX = ".parquet"
# `train-00000-of-00014.parquet`, as datasets on the hub are divided.
SPLIT_PATTERN = re.compile(r"(?P<split>[\w.-]+)-\d+-of-\d+\.parquet")
ROWS_AT_ONCE = 16


def embedded_column(schema: pa.Schema) -> str | None:
    """Return the column of a schema that holds recordings: a struct of `bytes` and `path`."""
    for field in schema:
        kind = field.type
        names = {each.name for each in kind} if pa.types.is_struct(kind) else set()
        if names >= {"bytes", "path"} and is_bytes(kind.field("bytes").type):
            return str(field.name)
    return None


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files that lie in a folder."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not is_side_file(path.name))


def read_embedded(paths: Sequence[Path], cache: Path | None = None) -> Table:
    """Return the rows of Parquet files with embedded recordings, as a table that points to them.

    The recordings' paths are names only. Splits are those of the files' names, and `id` is the key
    where that is possible. Columns that hold no text or numbers are left out, with a note. The
    bytes are copied into the folder `cache`, the user's by default. Raises `InputError` for a file
    that is damaged or holds no recordings.
    """
    tables = [read_file(path, cache or cache_folder() / "parquet") for path in paths]
    columns = tuple(dict.fromkeys(chain.from_iterable(table.columns for table in tables)))
    rows = [
        replace(row, values={**dict.fromkeys(columns), **row.values})
        for table in tables
        for row in table.rows
    ]
    notes = dict.fromkeys(chain.from_iterable(table.notes for table in tables))
    return with_keys(Table(columns=columns, rows=tuple(rows), notes=tuple(notes)))


def read_file(path: Path, cache: Path) -> Table:
    """Return the rows of one file."""
    file = open_parquet(path)
    schema = file.schema_arrow
    column = embedded_column(schema)
    if column is None:
        raise InputError(
            f"{path} holds no recordings: none of its columns ({', '.join(schema.names)}) is a "
            "struct of 'bytes' and 'path'"
        )
    labels = [field.name for field in schema if is_text(field.type) and field.name != "path"]
    left_out = sorted(set(schema.names) - {*labels, column, "path"})
    names = list(chain.from_iterable(names_in(file, column)))
    spans = copied(path, file, column, cache)
    match = SPLIT_PATTERN.fullmatch(path.name)
    split = {"split": match["split"]} if match and "split" not in labels else {}
    rows = tuple(
        Row(
            place=place,
            values={**values, **split, "path": name or f"{path.stem}/{number}"},
            stored=stored,
            unusable=None if stored else "has no bytes in its table",
        )
        for number, ((place, values), name, stored) in enumerate(
            zip(text_rows(path, file, labels), names, spans, strict=True)
        )
    )
    notes = (f"left out, since they hold no text: {', '.join(left_out)}",) if left_out else ()
    return Table(columns=("path", *split, *labels), rows=rows, notes=notes)


@dataclass(frozen=True, kw_only=True)
class CopyNotes:
    """What is noted of a copy: size, time and column of what was copied, and the rows' sizes."""

    of: tuple[int, int, str]
    sizes: tuple[Annotated[int, Ge(0)] | None, ...]


def names_in(file: pq.ParquetFile, column: str) -> Iterator[list[str | None]]:
    """Yield the names of the recordings, without the folders of whoever wrote them."""
    for batch in file.iter_batches(columns=[f"{column}.path"]):
        names = batch.column(0).field("path").to_pylist()
        yield [name and PurePath(name).name for name in names]


def copied(path: Path, file: pq.ParquetFile, column: str, cache: Path) -> list[StoredBytes | None]:
    """Return where the bytes of every row are; they are copied unless an earlier run did so.

    Of several processes, one copies and the others wait.
    """
    place = xxhash.xxh3_64_hexdigest(os.fsencode(path.resolve().parent))
    copy = cache / f"{path.name}-{place}.bytes"
    notes = copy.with_suffix(".json")
    cache.mkdir(parents=True, exist_ok=True)
    state = (path.stat().st_size, path.stat().st_mtime_ns, column)
    with open(copy.with_suffix(".lock"), "ab", opener=plain_file) as lock:
        flock(lock, fcntl.LOCK_EX)
        sizes = read_sizes(notes, state)
        if len(sizes) != file.metadata.num_rows or not holds(copy, sizes):
            remove_unfinished(cache, (copy.name, notes.name))
            with stoppable(), atomic_write(copy) as output:
                sizes = tuple(copy_bytes(path, file, column, output))
            write_text(notes, json.dumps(asdict(CopyNotes(of=state, sizes=sizes))))
    starts = accumulate((size or 0 for size in sizes), initial=0)
    return [
        None if size is None else StoredBytes(path=copy, offset=start, size=size)
        for size, start in zip(sizes, starts, strict=False)
    ]


def read_sizes(notes: Path, state: tuple[int, int, str]) -> tuple[int | None, ...]:
    """Return the sizes in the notes of a copy; none when they are damaged, or of another file."""
    try:
        known = read_record(CopyNotes, notes, "delete it")
    except (FileNotFoundError, IntegrityError):
        return ()
    return known.sizes if known.of == state else ()


def holds(copy: Path, sizes: Sequence[int | None]) -> bool:
    """Return whether a copy is there with all its bytes."""
    return copy.is_file() and copy.stat().st_size == sum(size or 0 for size in sizes)


def copy_bytes(
    path: Path, file: pq.ParquetFile, column: str, output: BinaryIO
) -> Iterator[int | None]:
    """Write the bytes of all rows one after another, and yield their sizes; None for no bytes."""
    with progress_bar(f"copy {path.name}", total=file.metadata.num_rows, unit="row") as bar:
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[f"{column}.bytes"]):
                for content in batch.column(0).field("bytes"):
                    data = content.as_buffer() if content.is_valid else None
                    output.write(data or b"")
                    yield None if data is None else data.size
                bar.update(batch.num_rows)
                stop_if_asked()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is not a complete Parquet file: {error}") from error


def with_keys(table: Table) -> Table:
    """Return the table with `id` and `speaker_id` as key and speaker, where they can be."""
    renamed = {}
    if "speaker_id" in table.columns and "speaker" not in table.columns:
        renamed["speaker_id"] = "speaker"
    ids = [row.values.get("id") or "" for row in table.rows]
    if (
        "key" not in table.columns
        and len(set(ids)) == len(ids)
        and all(map(KEY_PATTERN.fullmatch, ids))
    ):
        renamed["id"] = "key"
    return table.renamed(renamed)
