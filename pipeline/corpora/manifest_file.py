"""A list of recordings, or of parts of them: one row per utterance."""

import math
from dataclasses import replace
from pathlib import Path, PurePath

from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus, Skip, Utterance, measure
from aalbert.pipeline.corpora.names import (
    KEY_PATTERN,
    LONGEST_KEY,
    check_splits,
    key_of,
    taken_fields,
)
from aalbert.pipeline.corpora.tables.listing import OWN_COLUMNS, read_listing
from aalbert.pipeline.corpora.tables.table import Row, Table

DEFAULT_SPLIT = "all"
# What programs write for a value that is missing; a speaker of that name would be an accident.
MISSING_VALUES = frozenset({"nan", "none", "null", "<na>"})


def read_manifest_file(path: Path, root: Path | None = None) -> Corpus:
    """Read the utterances that a table, or another list that `read_listing` knows, has.

    The column `path` names the recording, absolute or below `root` (the folder of the
    table by default); `key`, `speaker`, `split`, and `start` and `end` in seconds are
    optional; every other column becomes a text column of the index. Recordings that are
    missing are skipped with that reason. Raises `InputError` that names file, line and
    value when the table has a value that is not valid.
    """
    table = read_listing(path)
    root = root or table.root or (path if path.is_dir() else path.parent)
    fields = check_names(path, table)
    found: list[Utterance | Skip] = [
        read_row(row, root, fields)
        if row.unusable is None
        else Skip(source=row.values["path"] or "", reason=row.unusable)
        for row in table.rows
    ]
    check_rows(found, table.rows)
    found = [measured(item) if isinstance(item, Utterance) else item for item in found]
    utterances = tuple(item for item in found if isinstance(item, Utterance))
    skipped = tuple(item for item in found if isinstance(item, Skip))
    if not utterances:
        raise InputError(
            f"none of the {len(skipped)} recordings that {path} lists can be read; for example "
            f"{skipped[0].source}: {skipped[0].reason} (paths count from {root}; see --root)"
        )
    unknown = (f"{path} has no column 'speaker': the speakers are unknown",)
    return Corpus(
        name="manifest",
        root=root,
        fields=fields,
        utterances=utterances,
        skipped=skipped,
        notes=table.notes + (() if "speaker" in table.columns else unknown),
    )


def measured(utterance: Utterance) -> Utterance | Skip:
    """Return an utterance with the size of its recording, or why there is none."""
    if utterance.offset is not None:
        return utterance
    size = measure(utterance.source, utterance.path)
    return size if isinstance(size, Skip) else replace(utterance, size=size)


def check_rows(found: list[Utterance | Skip], rows: tuple[Row, ...]) -> None:
    """Raise `InputError` for keys that two rows have, and splits that are no names of folders."""
    listed = {
        row.place: item
        for row, item in zip(rows, found, strict=True)
        if isinstance(item, Utterance)
    }
    check_unique(list(listed.values()), list(listed))
    check_splits({item.split: place for place, item in reversed(listed.items())})


def check_names(path: Path, table: Table) -> tuple[str, ...]:
    """Return the columns that become fields; `InputError` for a table without `path`."""
    if "path" not in table.columns:
        raise InputError(f"{path} has no column 'path': it has {', '.join(table.columns)}")
    fields = tuple(name for name in table.columns if name not in OWN_COLUMNS)
    if taken := taken_fields(fields):
        raise InputError(
            f"{path} has the column '{taken[0]}', a name that the index of a dataset needs for "
            f"itself: rename it, for example to 'corpus_{taken[0]}'"
        )
    return fields


def read_row(row: Row, root: Path, fields: tuple[str, ...]) -> Utterance:
    """Return the utterance of a row, not yet measured."""
    values = row.values
    path = values["path"]
    if not path or "\0" in path:
        raise InputError(f"{row.place}: path is '{path or ''}': name a file in every row")
    for name in ("key", "speaker", "split"):
        if (values.get(name) or "").lower() in MISSING_VALUES:
            raise InputError(
                f"{row.place}: {name} is '{values[name]}', which programs write where a value is "
                "missing: leave the cell empty, or choose another name"
            )
    start, end = read_span(row)
    source = source_of(path, root)
    key = values.get("key") or key_of(source, start, end)
    if not KEY_PATTERN.fullmatch(key):
        raise InputError(
            f"{row.place}: key is '{key}': a key has up to {LONGEST_KEY} letters (a-z, A-Z), "
            "digits, '-' and '_'; without a column 'key' it is made from the path"
        )
    return Utterance(
        key=key,
        split=values.get("split") or DEFAULT_SPLIT,
        source=source,
        path=root / path if row.stored is None else row.stored.path,
        size=0 if row.stored is None else row.stored.size,
        offset=None if row.stored is None else row.stored.offset,
        start=start,
        end=end,
        speaker=values.get("speaker") or None,
        fields={name: values[name] for name in fields},
    )


def source_of(path: str, root: Path) -> str:
    """Return the path of a file relative to the root if it is below it, else the path as given."""
    given = PurePath(path)
    if not given.is_absolute():
        return given.as_posix()
    below = root.absolute()
    return given.relative_to(below).as_posix() if given.is_relative_to(below) else path


def read_span(row: Row) -> tuple[float, float | None]:
    """Return start and end of the part of the recording, in seconds."""
    start = read_seconds(row, "start")
    end = read_seconds(row, "end")
    if end is not None and end <= (start or 0.0):
        raise InputError(
            f"{row.place}: end is {row.values['end']}, start is {row.values.get('start') or 0}: "
            "a part ends after it starts (seconds)"
        )
    return start or 0.0, end


def read_seconds(row: Row, name: str) -> float | None:
    """Return the time in a column in seconds; None for an empty cell."""
    text = row.values.get(name)
    if not text:
        return None
    try:
        seconds = math.nan if "_" in text else float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(
            f"{row.place}: {name} is '{text}': expected seconds from 0 on, such as 12.5"
        )
    return seconds


def check_unique(utterances: list[Utterance], places: list[str]) -> None:
    """Raise `InputError` for two rows with one key."""
    first: dict[str, int] = {}
    for number, utterance in enumerate(utterances):
        other = first.setdefault(utterance.key, number)
        if other != number:
            raise InputError(
                f"{places[other]} and {places[number]} have the same key '{utterance.key}': "
                "remove one of them, or give them keys in a column 'key'"
            )
