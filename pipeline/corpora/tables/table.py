"""A table of text: its columns, and its rows with their places in the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

Values = dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class StoredBytes:
    """The bytes of a recording within a file."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its place (`list.csv:3`), the text in its columns, and why it cannot be used, if so.

    `path` among its values names the recording; with `stored` that is a name only, and the bytes
    are there. `unusable` is the reason for which the recording is skipped.
    """

    place: str
    values: Values
    stored: StoredBytes | None = None
    unusable: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of a file in their order, and its rows, each with all of them.

    `root` is the folder from which relative paths count; None is that of the file. `notes` are
    remarks for the user.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    root: Path | None = None
    notes: tuple[str, ...] = field(default=())

    def renamed(self, names: Mapping[str, str]) -> "Table":
        """Return the table with other names for some of its columns."""
        rows = (
            replace(row, values={names.get(name, name): text for name, text in row.values.items()})
            for row in self.rows
        )
        columns = tuple(names.get(name, name) for name in self.columns)
        return replace(self, columns=columns, rows=tuple(rows))
