"""What training measures, appended to JSON lines and CSV as it comes."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from aalbert.common.files import naming, write_text

Measurements = list[dict[str, Any]]


class Recorder(Protocol):
    """Takes measurements."""

    def write(self, **row: Any) -> None:
        """Take one: `step`, and named numbers."""


class Recorders:
    """Gives every measurement to several recorders, or to none."""

    def __init__(self, *recorders: Recorder) -> None:
        self.recorders = recorders

    def write(self, **row: Any) -> None:
        """Give one measurement to all."""
        for recorder in self.recorders:
            recorder.write(**row)


class MetricsWriter:
    """Appends measurements to `metrics.jsonl` and `metrics.csv` in a run folder.

    Every measurement has a `step` and some of `columns`. When a run continues from an
    earlier step, what was measured after that step is dropped, since it comes again.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, first_step: int = 0) -> None:
        self.path = path
        self.csv_path = path.with_suffix(".csv")
        self.columns = ("step", *columns)
        kept = [row for row in read_measurements(path) if row["step"] <= first_step]
        write_text(path, "".join(to_line(row) for row in kept))
        write_text(self.csv_path, ",".join(self.columns) + "\n")
        for row in kept:
            self._append_csv(row)

    def write(self, **row: Any) -> None:
        """Append one measurement to both files."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(to_line(row))
        self._append_csv(row)

    def _append_csv(self, row: dict[str, Any]) -> None:
        path = self.csv_path
        with naming(path), path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns, lineterminator="\n").writerow(row)


def to_line(row: dict[str, Any]) -> str:
    """Return a measurement as one line of JSON."""
    return json.dumps(row, allow_nan=False) + "\n"


def read_measurements(path: Path) -> Measurements:
    """Read the measurements of a run, but for a last line that was cut off."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text("utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
