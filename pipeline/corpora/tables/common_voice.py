"""Common Voice's lists: TSV with `client_id`, `path` (below `clips/`) and `sentence`."""

from dataclasses import replace
from pathlib import Path

from aalbert.pipeline.corpora.tables.table import Table

RENAMED = {"client_id": "speaker", "sentence": "text"}
COLUMNS = frozenset({"path", *RENAMED})
CLIPS = "clips"


def is_common_voice(table: Table) -> bool:
    """Return whether a table has Common Voice's columns, and not already ours."""
    return set(table.columns) >= COLUMNS and not set(RENAMED.values()) & set(table.columns)


def from_common_voice(table: Table, folder: Path) -> Table:
    """Return the table with speakers and texts; its paths count from `clips/`, if that is there.

    `folder` is that of the list.
    """
    clips = folder / CLIPS
    return replace(table.renamed(RENAMED), root=clips if clips.is_dir() else None)
