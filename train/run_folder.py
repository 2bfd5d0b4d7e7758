"""One run is one folder: what was asked, what it ran on, what it measured, what it made."""

import csv
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aalbert.common.files import TEMPORARY_SUFFIX, naming, require_empty, write_json, write_text
from aalbert.common.locking import hold_where_possible
from aalbert.common.store import is_url
from aalbert.errors import InputError, IntegrityError, OutputInUseError
from aalbert.models.checkpoint import EXPORT_FOLDER
from aalbert.shards.reading.dataset import Dataset

SOFTWARE = ("aalbert", "torch", "pytorch-lightning", "numpy")
Measurements = list[dict[str, Any]]


@dataclass(frozen=True)
class RunFolder:
    """The places inside a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """What the run was made with: task, data, versions, host, seed, command."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON document per measurement; a CSV file of the same lies beside it."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """States from which training continues."""
        return self.path / "checkpoints"

    @property
    def pictures(self) -> Path:
        """Spectrograms, masked and reconstructed, at some steps."""
        return self.path / "pictures"

    @property
    def export(self) -> Path:
        """The finished model."""
        return self.path / EXPORT_FOLDER

    @property
    def evaluation(self) -> Path:
        """The result of `aalbert evaluate`."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page that shows the result."""
        return self.path / "report.html"

    def create(self, config: str, record: Mapping[str, Any]) -> None:
        """Start a run; `OutputInUseError` when the folder is not empty."""
        if self.record.is_file():
            raise OutputInUseError(
                f"{self.path} holds a run: continue it with --resume, or choose another --out"
            )
        require_empty(self.path)
        write_text(self.config, config)
        write_json(self.record, {**record, **surroundings()})

    def hold(self) -> AbstractContextManager[None]:
        """Keep other processes from training here; `OutputInUseError` names one that does."""
        return hold_where_possible(self.checkpoints / "lock")

    def read_record(self) -> dict[str, Any]:
        """Return `run.json`; `InputError` when the folder is no run."""
        if not self.record.is_file():
            raise InputError(f"{self.path} is not the folder of a run: it has no run.json")
        try:
            record: dict[str, Any] = json.loads(self.record.read_text("utf-8"))
        except ValueError as error:
            raise IntegrityError(f"{self.record} is damaged ({error})") from error
        return record

    def add_to_record(self, facts: Mapping[str, Any]) -> None:
        """Add to `run.json` what is known now."""
        write_json(self.record, {**self.read_record(), **facts})

    def change_config(self, config: str, change: Mapping[str, Any]) -> None:
        """Put another configuration in place of the run's, and note in `run.json` that it was."""
        changes = [*self.read_record().get("changes", []), {**change, **surroundings()}]
        write_text(self.config, config)
        self.add_to_record({"changes": changes})

    def require_writable(self) -> None:
        """Raise `OSError` now, not at the first checkpoint, when nothing can be written."""
        probe = self.checkpoints / ("probe" + TEMPORARY_SUFFIX)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return every measurement of the run so far."""
        return read_measurements(self.metrics)


def lasting_place(data: Path | str) -> str:
    """Return the place of a dataset as it is found from anywhere: a URL, or an absolute path."""
    return str(data) if is_url(data) else str(Path(data).resolve())


def open_data(record: dict[str, Any], data: Path | str | None = None) -> Dataset:
    """Open the dataset of a run, where it was or in `data`, refusing any other one."""
    dataset = Dataset(data or record["data"])
    if dataset.manifest.fingerprint != record["data_fingerprint"]:
        raise IntegrityError(
            f"{dataset.place} has fingerprint {dataset.manifest.fingerprint}, the run was "
            f"trained on {record['data_fingerprint']}: it is another dataset, or was made anew"
        )
    return dataset


def open_datasets(record: dict[str, Any]) -> list[Dataset]:
    """Open the datasets of a run that can have several, refusing any other ones."""
    pairs = zip(record["data"], record["data_fingerprint"], strict=True)
    return [open_data({"data": place, "data_fingerprint": made}) for place, made in pairs]


def surroundings() -> dict[str, Any]:
    """Return what a run depends on besides its settings and data."""
    return {
        "software": {name: version(name) for name in SOFTWARE},
        "python": platform.python_version(),
        "host": platform.node(),
        "system": platform.platform(),
        "command": shlex.join(["aalbert", *sys.argv[1:]]),
    }


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
