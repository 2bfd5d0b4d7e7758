"""The folder of a run: its settings, its record, its measurements and its results."""

import csv
import json
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from aalbert.common.files import (
    TEMPORARY_SUFFIX,
    file_digest,
    is_side_file,
    naming,
    require_empty,
    write_json,
    write_text,
)
from aalbert.common.locking import hold_where_possible
from aalbert.common.store import is_url
from aalbert.errors import ConfigError, InputError, IntegrityError, OutputInUseError, require
from aalbert.models.checkpoint import EXPORT_FOLDER
from aalbert.models.training_states import STATES_FOLDER
from aalbert.shards.reading.dataset import Dataset

SOFTWARE = ("aalbert", "torch", "pytorch-lightning", "numpy")
REPORT_NAME = "report.html"
Measurements = list[dict[str, Any]]


class EvaluationFolder:
    """The folder of an evaluation: that of the run, or one inside it for further trials."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.json"
        self.predictions = path / "predictions.csv"
        # The page that shows the result, and the one that compares other runs with this one.
        self.report = path / REPORT_NAME
        self.comparison = path / "comparison.html"


class RunFolder:
    """The folder of a run: the paths inside it, and its record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The resolved configuration.
        self.config = path / "config.yaml"
        # What the run was made with: task, data, versions, host, seed, command.
        self.record = path / "run.json"
        # One JSON document per measurement; a CSV file of the same lies beside it.
        self.metrics = path / "metrics.jsonl"
        # States from which training continues.
        self.checkpoints = path / STATES_FOLDER
        # Held by the process that trains.
        self.lock = self.checkpoints / "lock"
        # Spectrograms, masked and reconstructed, at some steps.
        self.pictures = path / "pictures"
        # The finished model.
        self.export = path / EXPORT_FOLDER
        # The page that shows how pretraining went.
        self.report = path / REPORT_NAME

    @contextmanager
    def begin(self, config: str, record: Mapping[str, Any]) -> Iterator[None]:
        """Create the folder of a new run, and hold it for training.

        Raises `OutputInUseError` when it is not empty, or when another process trains in it. What
        is left of a run that was ended before it had written its record is replaced.
        """
        self.require_new()
        with self.hold(), self.discarded_if_refused():
            # Another process may have begun, or even finished, a run before this one held it.
            self.require_new()
            for name in (self.config.name, self.record.name):
                for left_over in self.path.glob(f"{name}*{TEMPORARY_SUFFIX}"):
                    left_over.unlink()
            write_text(self.config, config)
            write_json(self.record, {**record, **describe_environment()})
            yield

    def require_new(self) -> None:
        """Raise `OutputInUseError` unless the folder is empty, or holds a beginning of a run."""
        if self.record.is_file():
            raise OutputInUseError(
                f"{self.path} holds a run: continue it with --resume, or choose another --out"
            )
        if not self.holds_only_a_beginning():
            require_empty(self.path)

    def holds_only_a_beginning(self) -> bool:
        """Return whether there is nothing but what a run makes before its record: lock, settings.

        Settings alone may be a user's own.
        """
        if not self.checkpoints.is_dir():
            return False
        made = (self.checkpoints.name, self.config.name)
        return all(path == self.lock for path in self.checkpoints.iterdir()) and all(
            path.name in made
            or is_side_file(path.name)
            or (
                path.name.endswith(TEMPORARY_SUFFIX)
                and path.name.startswith((self.config.name, self.record.name))
            )
            for path in self.path.iterdir()
        )

    @contextmanager
    def discarded_if_refused(self) -> Iterator[None]:
        """Remove the folder of a new run that is refused before it has saved a state.

        The corrected command can then be given as it is.
        """
        try:
            yield
        except (ConfigError, InputError):
            if not any(self.checkpoints.glob("*.ckpt")):
                # The folder may be a link, to a faster disk, which stays.
                target = self.path.resolve()
                shutil.rmtree(target)
                if self.path.is_symlink():
                    target.mkdir()
            raise

    def hold(self) -> AbstractContextManager[None]:
        """Lock the folder for training; `OutputInUseError` with the process that holds the lock."""
        return hold_where_possible(self.lock)

    def read_record(self) -> dict[str, Any]:
        """Return `run.json`; `InputError` when the folder is not that of a run."""
        if not self.record.is_file():
            raise InputError(f"{self.path} is not the folder of a run: it has no run.json")
        try:
            record: dict[str, Any] = json.loads(self.record.read_text("utf-8"))
        except ValueError as error:
            raise IntegrityError(f"{self.record} is damaged ({error})") from error
        return record

    def add_to_record(self, facts: Mapping[str, Any]) -> None:
        """Add facts to `run.json`."""
        write_json(self.record, {**self.read_record(), **facts})

    def change_config(self, config: str, change: Mapping[str, Any]) -> None:
        """Replace the configuration of the run, and note the change in `run.json`."""
        changes = [*self.read_record().get("changes", []), {**change, **describe_environment()}]
        write_text(self.config, config)
        self.add_to_record({"changes": changes})

    def require_writable(self) -> None:
        """Raise `OSError` when nothing can be written, before the first checkpoint needs it."""
        probe = self.checkpoints / ("probe" + TEMPORARY_SUFFIX)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return every measurement of the run so far."""
        return read_measurements(self.metrics)

    def held_out_losses(self) -> dict[int, float]:
        """Return the held-out losses of a pretraining run so far, by step."""
        name = "validation_loss"
        return {row["step"]: row[name] for row in self.read_metrics() if name in row}


def lasting_path(path: str) -> str:
    """Return an absolute path; an empty one stays empty."""
    return str(Path(path).resolve()) if path else ""


def lasting_place(data: Path | str) -> str:
    """Return the place of a dataset, valid from any working directory: a URL or absolute path."""
    return str(data) if is_url(data) else str(Path(data).resolve())


def data_record(data: Sequence[Path | str], datasets: Sequence[Dataset]) -> dict[str, list[str]]:
    """Return the entries of a run's record for its datasets, which lie at the places `data`."""
    return {
        "data": [lasting_place(place) for place in data],
        "data_fingerprint": [dataset.manifest.fingerprint for dataset in datasets],
    }


def open_data(record: dict[str, Any], data: Path | str | None = None) -> Dataset:
    """Open the dataset of a run at its recorded place, or in `data`.

    Raises `IntegrityError` when it is not the one that the run was trained on.
    """
    dataset = Dataset(data or record["data"])
    if dataset.manifest.fingerprint != record["data_fingerprint"]:
        raise IntegrityError(
            f"{dataset.place} has fingerprint {dataset.manifest.fingerprint}, the run was "
            f"trained on {record['data_fingerprint']}: it is another dataset, or was prepared again"
        )
    return dataset


def open_datasets(
    record: dict[str, Any], data: Sequence[Path | str] | None = None
) -> list[Dataset]:
    """Open the datasets of a `data_record`, or the same in `data`, in their order.

    Raises `IntegrityError` as `open_data` does, and `ConfigError` for another number of them.
    """
    places, fingerprints = data or record["data"], record["data_fingerprint"]
    require(
        len(places) == len(fingerprints),
        f"{len(places)} datasets are given, the run was trained on {len(fingerprints)}: give "
        "--data for each, in their order",
    )
    return [
        open_data({"data": place, "data_fingerprint": fingerprint})
        for place, fingerprint in zip(places, fingerprints, strict=True)
    ]


def digest_places(places: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of what lies at each place, by the setting that names it; "" is no place.

    A folder has the hash of the names and the contents of its files.
    """
    return {setting: digest_place(Path(place)) for setting, place in places.items() if place}


def digest_place(path: Path) -> str:
    """Return the hash of a file, or of all files below a folder; nothing has one too."""
    if path.is_file():
        return file_digest(path)
    digest = xxhash.xxh3_128()
    for file in sorted(each for each in path.rglob("*") if is_content(each)):
        digest.update(f"{file.relative_to(path)}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def is_content(path: Path) -> bool:
    """Return whether a path is a file that a user put there: looking at a folder may add others."""
    return path.is_file() and not is_side_file(path.name)


def require_same_files(record: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise `IntegrityError` when a file that settings name is not what the run was made with."""
    for setting, digest in digest_places(places).items():
        if record["files"].get(setting) != digest:
            raise IntegrityError(
                f"{places[setting]} ({setting}) has changed since the run was made with it: put "
                "back what it was, or train again into another --out"
            )


def describe_environment() -> dict[str, Any]:
    """Return what a run depends on besides its settings and data: software, host, command."""
    return {
        "software": {name: version(name) for name in SOFTWARE},
        "python": platform.python_version(),
        "host": platform.node(),
        "system": platform.platform(),
        "command": shlex.join(["aalbert", *sys.argv[1:]]),
    }


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
        write_text(path, "".join(to_line(row) for row in self.kept))
        write_text(self.csv_path, ",".join(self.columns) + "\n")
        for row in self.kept:
            self._append_csv(row)

    def write(self, **row: Any) -> None:
        """Append one measurement to both files."""
        if any(each["step"] == row["step"] and each.keys() == row.keys() for each in self.kept):
            return
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
    """Read the measurements of a run, without a last line that was cut off."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text("utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
