"""Tables as CSV, for spreadsheet programs too."""

import csv
import io
from collections.abc import Iterable, Sequence

# Spreadsheet programs run a cell that starts with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *"＝＋－＠")  # noqa: RUF001


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV in which no text is a formula for spreadsheet programs."""
    stream = io.StringIO()
    # All texts are quoted: before Python 3.13 the writer leaves a carriage return bare.
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([[neutral(cell) for cell in row] for row in rows])
    return stream.getvalue()


def neutral(cell: object) -> object:
    """Return a cell, with a `'` before a text that spreadsheets run as a formula, as `=cmd()`."""
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS):
        return f"'{cell}"
    return cell
