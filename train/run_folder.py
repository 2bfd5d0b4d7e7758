"""The folder of a run: its settings, its record, its measurements and its results."""

import math
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from aalbert.common.configuration import as_plain, load_config, to_yaml
from aalbert.common.files import (
    TEMPORARY_SUFFIX,
    file_digest,
    is_side_file,
    remove_unfinished,
    require_empty,
    require_no_link,
    temporary_name,
    write_json,
    write_text,
)
from aalbert.common.json_files import as_record, naming_damage, read_record
from aalbert.common.locking import hold_where_possible
from aalbert.common.redaction import is_redacted, redact_all, redact_url
from aalbert.common.text import flat
from aalbert.errors import ConfigError, InputError, IntegrityError, OutputInUseError
from aalbert.models.checkpoint import (
    CARD_NAME,
    CONFIG_NAME,
    EXPORT_FOLDER,
    FILE_NAMES,
    WEIGHTS_NAME,
)
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_states import STATES_FOLDER, state_path
from aalbert.train.measurements import Measurements, read_measurements
from aalbert.train.run_record import START_WEIGHTS, RunRecord

# The entry of the record with the settings of `config.yaml`.
SETTINGS = "settings"
# They decide neither what is trained nor on what, so a run may go on with others.
CHANGEABLE = frozenset(
    {
        *("export", "keep_checkpoints", "loggers", "timeout_s"),
        *("prefetch", "data.prefetch", "data.verify"),
    }
)
RECORD_WAY_OUT = "restore it, or train again into another --out"
CONFIG_WAY_OUT = "put back the settings, which run.json has, or train again into another --out"
SOFTWARE = ("aalbert", "torch", "pytorch-lightning", "numpy")
REPORT_NAME = "report.html"
# The result of a sweep, in the folder that has the folders of its runs.
SWEEP_NAME = "sweep.json"
# What is measured before is written in moments.
WRITING_S = 60.0
Config = TypeVar("Config")


class EvaluationFolder:
    """The folder of an evaluation: that of the run, or one inside it for further trials."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.json"
        self.predictions = path / "predictions.csv"
        # The page that shows the result, and the one that compares other runs with this one.
        self.report = path / REPORT_NAME
        self.comparison = path / "comparison.html"
        # Of the finished model, which a run has.
        self.card = path / EXPORT_FOLDER / CARD_NAME
        # Held by the process that writes these, by evaluations in turn.
        self.lock = path / ".evaluate" / "lock"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write its files, and remove what a killed process left of them half written.

        Raises `OutputInUseError` when another evaluation writes there all the time.
        """
        files = (self.metrics, self.predictions, self.report, self.comparison, self.card)
        require_no_link(self.lock.parent)
        try:
            with hold_where_possible(self.lock, patience_s=WRITING_S):
                names = {each.relative_to(self.path).as_posix() for each in files}
                remove_unfinished(self.path, names)
                yield
        finally:
            # Another process may have come for its turn.
            with suppress(OSError):
                self.lock.parent.rmdir()


class RunFolder:
    """The folder of a run: the paths inside it, and its record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The resolved configuration.
        self.config = path / "config.yaml"
        # What the run was made with: task, data, versions, host, seed, command; no secrets.
        self.record = path / "run.json"
        # One JSON document per measurement; a CSV file of the same lies beside it.
        self.metrics = path / "metrics.jsonl"
        # States from which training continues.
        self.checkpoints = path / STATES_FOLDER
        # Held by the process that trains.
        self.lock = self.checkpoints / "lock"
        # Spectrograms, masked and reconstructed, at some steps.
        self.pictures = path / "pictures"
        # The model that training continues from, if any: what lies elsewhere may go.
        self.start = path / "start"
        # The finished model.
        self.export = path / EXPORT_FOLDER
        # The page that shows how pretraining went.
        self.report = path / REPORT_NAME

    def __repr__(self) -> str:
        # Nothing is read: a damaged run has a name too.
        known = (self.record, self.metrics, self.export, self.report)
        found = [path.name for path in known if os.path.exists(path)]
        return f"RunFolder({str(self.path)!r}: {', '.join(found) or 'nothing yet'})"

    @contextmanager
    def begin(
        self, config: Any, record: Mapping[str, Any], start: PretrainedModel | None = None
    ) -> Iterator[None]:
        """Create the folder of a new run, with a copy of the model that it continues from.

        It is held for training.

        Raises `OutputInUseError` when it is not empty, or when another process trains in it. What
        is left of a run that was ended before it had written its record is replaced.
        """
        self.require_new()
        with self.hold(), self.discarded_if_refused():
            # Another process may have begun, or even finished, a run before this one held it.
            self.require_new()
            facts = {**record, SETTINGS: settings_of(config), **describe_environment()}
            write_text(self.config, to_yaml(config))
            require_no_link(self.start)
            if self.start.exists():
                shutil.rmtree(self.start)
            if start is not None:
                start.save_pretrained(self.start)
                facts[START_WEIGHTS] = file_digest(self.start / WEIGHTS_NAME)
            write_json(self.record, redact_all(facts))
            yield

    def is_begun(self) -> bool:
        """Return whether this is a run whose model is not written yet."""
        return self.record.is_file() and not self.has_model()

    def has_model(self) -> bool:
        """Return whether the model is written, of which the settings come last."""
        return (self.export / CONFIG_NAME).is_file()

    def has_finished(self, config: Any, facts: Mapping[str, Any]) -> bool:
        """Return whether this is a finished run with these settings and facts of its record."""
        if not (self.record.is_file() and self.has_model()):
            return False
        record = self.read_record()
        known = {name: record.get(name) for name in (*facts, SETTINGS)}
        wanted: dict[str, Any] = redact_all({**facts, SETTINGS: settings_of(config)})
        return known == wanted

    def require_new(self) -> None:
        """Raise `OutputInUseError` unless the folder is empty, or holds a beginning of a run."""
        if self.record.is_file():
            raise OutputInUseError(
                f"{self.path} holds a run: continue it with --resume, or choose another --out"
            )
        if not self.holds_only_a_beginning():
            require_empty(self.path)

    def holds_only_a_beginning(self) -> bool:
        """Return whether there is nothing but what a run makes before its record.

        That is its lock, its settings, and the model that it continues from. Settings alone may be
        a user's own.
        """
        if not self.checkpoints.is_dir():
            return False
        of_start = (self.start, *(self.start / name for name in FILE_NAMES))
        made = (self.lock, self.checkpoints, self.config, *of_start)
        folders = [self.path, self.checkpoints, *([self.start] if self.start.is_dir() else [])]
        return all(
            path.name.endswith(TEMPORARY_SUFFIX) or path in made
            for folder in folders
            for path in folder.iterdir()
            if not is_side_file(path.name)
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

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the folder for training, and remove what a killed process left half written.

        Raises `OutputInUseError` with the process that holds the lock.
        """
        with hold_where_possible(self.lock):
            remove_unfinished(self.path)
            yield

    def read_record(self) -> dict[str, Any]:
        """Return `run.json`; `InputError` when the folder is not that of a run."""
        if not self.path.exists():
            raise InputError(f"there is no folder {self.path}: expected that of a run")
        if not self.record.is_file():
            raise InputError(f"{self.path} is not the folder of a run: {self.why_no_run()}")
        record = read_record(dict[str, Any], self.record, RECORD_WAY_OUT)
        with naming_damage(str(self.record), RECORD_WAY_OUT):
            as_record(RunRecord, record)
        return record

    def why_no_run(self) -> str:
        """Return why the folder is none of a run: it is of a sweep, whose best run is named."""
        sweep = self.path / SWEEP_NAME
        if not sweep.is_file():
            return "it has no run.json"
        points = read_record(dict[str, Any], sweep, "sweep again")["points"]
        best = next((Path(point["run"]).name for point in points if point["best"]), None)
        if best is None:
            return "it is a sweep's, all of whose runs diverged"
        return f"it is a sweep's, whose best run on the dev part is {self.path / best}"

    def read_config(self, kind: type[Config]) -> Config:
        """Return the settings that the run was made with.

        Raises `IntegrityError` when `config.yaml` has others than `run.json`, which records them:
        a run with other settings is another run. `CHANGEABLE` settings may be changed.
        """
        recorded = self.read_record()[SETTINGS]
        try:
            config = load_config(kind, file=self.config, environment={})
        except (ConfigError, InputError) as error:
            raise IntegrityError(f"{error}; {CONFIG_WAY_OUT}") from error
        found = settings_of(config)
        for name in {**recorded, **found}:
            ours, theirs = found.get(name), recorded.get(name)
            if ours != theirs and name not in CHANGEABLE:
                raise IntegrityError(
                    f"{self.config} is damaged or was changed: {name} is {ours}, the run was made "
                    f"with {theirs}; {CONFIG_WAY_OUT}"
                )
        return config

    def add_to_record(self, facts: Mapping[str, Any]) -> None:
        """Add facts to `run.json`, without the secrets of URLs."""
        write_json(self.record, redact_all({**self.read_record(), **facts}))

    def change_config(self, config: Any, change: Mapping[str, Any]) -> None:
        """Replace the configuration of the run, and note the change in `run.json`."""
        changes = [*self.read_record().get("changes", []), {**change, **describe_environment()}]
        self.add_to_record({"changes": changes, SETTINGS: settings_of(config)})
        write_text(self.config, to_yaml(config))

    def require_writable(self) -> None:
        """Raise `OSError` when nothing can be written, before the first checkpoint needs it."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        probe = self.checkpoints / temporary_name("probe")
        probe.touch(exist_ok=False)
        probe.unlink()

    def read_metrics(self) -> Measurements:
        """Return every measurement of the run so far."""
        return read_measurements(self.metrics)

    def held_out_losses(self) -> dict[int, float]:
        """Return the held-out losses of a pretraining run so far, by step."""
        name = "validation_loss"
        return {row["step"]: row[name] for row in self.read_metrics() if name in row}

    def held_out_loss(self, step: int) -> float:
        """Return the held-out loss of a step; `IntegrityError` when it is not in the file."""
        losses = self.held_out_losses()
        if step not in losses:
            raise IntegrityError(
                f"{self.metrics} has no held-out loss of step {step}: restore it, or move "
                f"{state_path(self.checkpoints, step)} away and resume, which measures it again"
            )
        return losses[step]


def settings_of(config: Any) -> dict[str, Any]:
    """Return all settings of a configuration, each by its dotted name, as `run.json` has them."""
    return {
        name: str(value)
        if isinstance(value, float) and not math.isfinite(value)
        else redact_all(value)
        for name, value in flat(as_plain(asdict(config)))
    }


def resume_command(name: str, run: RunFolder, data: Sequence[str], upstream: str = "") -> str:
    """Return the command that continues a run; it names the places that the record has not whole.

    `data` and `upstream` are as messages show them.
    """
    words = ["aalbert", *name.split(), "--resume", "--out", str(run.path)]
    if any(map(is_redacted, data)):
        words += [word for place in data for word in ("--data", place)]
    if is_redacted(upstream):
        words += ["--upstream", upstream]
    return shlex.join(words)


def evaluate_command(run: RunFolder) -> str:
    """Return the command that evaluates a run; it names the data that the record has not whole."""
    data = run.read_record()["data"]
    words = ["aalbert", "evaluate", str(run.path)]
    return shlex.join([*words, "--data", data] if is_redacted(data) else words)


def describe_environment() -> dict[str, Any]:
    """Return what a run depends on besides its settings and data: software, host, command."""
    return {
        "software": {name: version(name) for name in SOFTWARE},
        "python": platform.python_version(),
        "host": platform.node(),
        "system": platform.platform(),
        "command": shlex.join(["aalbert", *map(redact_url, sys.argv[1:])]),
    }
