"""The measurements of a run: a JSON document a line, and a CSV file of the same."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aalbert.common.files import naming, plain_file, write_text
from aalbert.common.json_files import naming_damage, parse_records, read_bounded
from aalbert.errors import IntegrityError

WAY_OUT = "restore it, or take the line out"
Measurements = list[dict[str, Any]]


class MetricsWriter:
    """Appends measurements to `metrics.jsonl` and `metrics.csv` in a run folder.

    Every measurement has a `step` and some of `columns`. Measurements after `first_step`, from
    which a run is resumed, are dropped, since they are made again; of those up to it, one that is
    made again, as a validation that the state of this step owes, is not written twice.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, first_step: int = 0) -> None:
        self.path = path
        self.csv_path = path.with_suffix(".csv")
        self.columns = ("step", *columns)
        self.kept = [row for row in read_measurements(path) if row["step"] <= first_step]
        if unknown := {name for row in self.kept for name in row} - {*self.columns}:
            raise IntegrityError(f"{path} has {min(unknown)!r:.60}; {WAY_OUT}")
        write_text(path, "".join(to_line(row) for row in self.kept))
        write_text(self.csv_path, ",".join(self.columns) + "\n")
        for row in self.kept:
            self._append_csv(row)

    def write(self, **row: Any) -> None:
        """Append one measurement to both files."""
        if any(each["step"] == row["step"] and each.keys() == row.keys() for each in self.kept):
            return
        with (
            naming(self.path),
            open(self.path, "a", encoding="utf-8", opener=plain_file) as stream,
        ):
            stream.write(to_line(row))
        self._append_csv(row)

    def _append_csv(self, row: dict[str, Any]) -> None:
        path = self.csv_path
        with (
            naming(path),
            open(path, "a", encoding="utf-8", newline="", opener=plain_file) as stream,
        ):
            csv.DictWriter(stream, self.columns, lineterminator="\n").writerow(row)


def to_line(row: dict[str, Any]) -> str:
    """Return a measurement as one line of JSON."""
    return json.dumps(row, allow_nan=False) + "\n"


def read_measurements(path: Path) -> Measurements:
    """Read the measurements of a run, without a last line that was cut off.

    Raises `IntegrityError` that names another line which is damaged.
    """
    if not path.is_file():
        return []
    with naming_damage(str(path), WAY_OUT):
        whole, _, _ = read_bounded(path).rpartition(b"\n")
    rows = parse_records(dict[str, int | float], whole, str(path), WAY_OUT)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int):
            raise IntegrityError(f"{path}:{number} has no step; {WAY_OUT}")
    return rows
