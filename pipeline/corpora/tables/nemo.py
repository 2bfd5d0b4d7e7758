"""NeMo's manifests: JSON lines with `audio_filepath`, and its part by `offset`, `duration`."""

from dataclasses import replace

from aalbert.errors import InputError
from aalbert.pipeline.corpora.tables.table import Row, Table

PATH = "audio_filepath"
# Seconds from which the part begins, and seconds that it takes; each may be absent.
PART = ("offset", "duration")
# Times are written with up to about as many decimals.
TIME_DECIMALS = 9


def is_nemo(table: Table) -> bool:
    """Return whether a table names its recordings as NeMo does."""
    return PATH in table.columns and "path" not in table.columns


def from_nemo(table: Table) -> Table:
    """Return the table with the columns `path`, `start` and `end`.

    As NeMo reads it, a recording is taken from `offset` (0 by default) on, for `duration` seconds
    or to its end. Raises `InputError` for a time that is no number of seconds.
    """
    kept = tuple(name for name in table.columns if name not in (PATH, *PART))
    return replace(
        table,
        columns=("path", "start", "end", *kept),
        rows=tuple(translate(row, kept) for row in table.rows),
    )


def translate(row: Row, kept: tuple[str, ...]) -> Row:
    """Return a row of NeMo as one of ours."""
    offset, duration = (seconds_in(row, name) for name in PART)
    end = None if duration is None else round((offset or 0) + duration, TIME_DECIMALS)
    values = {
        "path": row.values[PATH],
        "start": None if offset is None else str(offset),
        "end": None if end is None else str(end),
        **{name: row.values[name] for name in kept},
    }
    return replace(row, values=values)


def seconds_in(row: Row, name: str) -> float | None:
    """Return a time of a row; None where there is none."""
    text = row.values.get(name)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{row.place}: {name} is '{text}': expected seconds") from error
