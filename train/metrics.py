"""What training measures, appended to JSON lines and CSV as it comes."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class MetricsWriter:
    """Appends measurements to `metrics.jsonl` and `metrics.csv` in a run folder.

    Every measurement has a `step` and some of `columns`. When a run continues from an
    earlier step, what was measured after that step is dropped, since it comes again.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, first_step: int = 0) -> None:
        self.path = path
        self.columns = ("step", *columns)
        kept = [row for row in self._read() if row["step"] <= first_step]
        path.write_text("", "utf-8")
        with self._csv_path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerow(self.columns)
        for row in kept:
            self.write(**row)

    def write(self, **row: Any) -> None:
        """Append one measurement to both files."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        with self._csv_path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)

    @property
    def _csv_path(self) -> Path:
        return self.path.with_suffix(".csv")

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]
