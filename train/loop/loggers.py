"""Lightning's loggers, which receive the measurements besides the run's own files.

They are called by the run itself, not by Lightning's trainer, whose steps are counted otherwise.
"""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pytorch_lightning.loggers import (
    CometLogger,
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from aalbert.common.files import write_json
from aalbert.common.json_files import Matching, read_record
from aalbert.common.notes import warn
from aalbert.errors import ConfigError
from aalbert.train.loop.config import LoggerName
from aalbert.train.measurements import Measurements

# The project or experiment of a run, unless the package's environment variable names another one.
PROJECT = "aalbert"
# A logger that failed is tried again with the first measurement after this time.
RETRY_S = 600.0
# MLflow sends while training waits; by itself it would try for minutes.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@dataclass(frozen=True)
class LoggerIds:
    """What `loggers.json` holds: the id of the run in each logger, under which it goes on."""

    ids: Mapping[str, Annotated[str, Matching("^[0-9A-Za-z_-]{0,64}$")]] = field(
        default_factory=dict
    )


def open_tensorboard(folder: Path, _: str | None) -> Logger:
    """Return a logger that writes event files into `tensorboard/`."""
    return TensorBoardLogger(folder, name="tensorboard", version="")


def open_wandb(folder: Path, id: str | None) -> Logger:
    """Return a logger that sends to W&B, or writes into `wandb/` with `WANDB_MODE=offline`."""
    import wandb

    return WandbLogger(
        name=folder.name,
        save_dir=folder,
        version=id,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        # Its metadata has the command, and so the secrets of URLs; `run.json` has it without.
        settings=wandb.Settings(silent=True, console="off", x_disable_meta=True),
    )


def open_mlflow(folder: Path, id: str | None) -> Logger:
    """Return a logger that sends to `MLFLOW_TRACKING_URI`, or writes into `mlflow.db`."""
    for name, value in MLFLOW_PATIENCE.items():
        os.environ.setdefault(name, value)
    database = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", database),
        artifact_location=(folder.resolve() / "mlartifacts").as_uri(),
        run_id=id,
    )


def open_comet(folder: Path, id: str | None) -> Logger:
    """Return a logger that sends to Comet, which learns neither code nor command."""
    return CometLogger(
        experiment_key=id,
        project=os.environ.get("COMET_PROJECT_NAME", PROJECT),
        name=folder.name,
        offline_directory=str(folder / "comet"),
        log_code=False,
        parse_args=False,
        log_git_metadata=False,
        log_git_patch=False,
        log_env_details=False,
        auto_output_logging=False,
        display_summary_level=0,
    )


def open_csv(folder: Path, _: str | None) -> Logger:
    """Return a logger that writes into `csv/`, from the beginning of the run each time."""
    shutil.rmtree(folder / "csv", ignore_errors=True)
    return CSVLogger(folder, name="csv", version="")


@dataclass(frozen=True)
class LoggerKind:
    """How a logger is opened in the folder of a run, for the id of the run there if it has one.

    It needs `package`; `appends` says that what it had stays when it is opened again, and `end`
    ends its run after Lightning's `finalize`.
    """

    open: Callable[[Path, str | None], Logger]
    package: str = ""
    appends: bool = True
    end: Callable[[Any], object] = lambda experiment: None


LOGGERS: dict[LoggerName, LoggerKind] = {
    "tensorboard": LoggerKind(open_tensorboard, "tensorboard"),
    "wandb": LoggerKind(open_wandb, "wandb", end=lambda experiment: experiment.finish()),
    "mlflow": LoggerKind(open_mlflow, "mlflow"),
    "comet": LoggerKind(open_comet, "comet_ml", end=lambda experiment: experiment.end()),
    "csv": LoggerKind(open_csv, appends=False),
}


def require_installed(names: Sequence[LoggerName]) -> None:
    """Raise `ConfigError` when the package of a logger is missing."""
    for name in names:
        package = LOGGERS[name].package
        if package and find_spec(package) is None:
            raise ConfigError(
                f"the logger '{name}' is not installed: pip install 'aalbert[{name}]', or leave "
                "it out of loggers"
            )


class LoggerOfRun:
    """A logger of the run in `folder`, which gets every number of a step once.

    One that is new to the run gets its `settings` first, and raises `ConfigError` when it does not
    take them. Later failures end nothing: they are said on stderr, and what was not taken is sent
    again after `RETRY_S`; when the process is killed before, it is lost to this logger. `history`
    are the measurements that the run made before, of which those `kept` are not made again.
    """

    def __init__(
        self,
        name: LoggerName,
        folder: Path,
        settings: Mapping[str, Any],
        history: Measurements,
        kept: Measurements,
    ) -> None:
        self.name = name
        self.kind = LOGGERS[name]
        self.folder = folder
        self.settings = settings
        self.logger: Logger | None = None
        self.waiting: deque[dict[str, Any]] = deque()
        self.retry_at = 0.0
        known = self.kind.appends and name in self.read_ids()
        self.logged = {(row["step"], each) for row in history if known for each in row}
        if not known:
            self.begin()
            for row in kept:
                self.write(**row)

    @property
    def ids_path(self) -> Path:
        """The file with the ids of the run in its loggers."""
        return self.folder / "loggers.json"

    def read_ids(self) -> dict[str, str]:
        """Return the ids of the run in its loggers, by their names."""
        if not self.ids_path.is_file():
            return {}
        way_out = "delete it, and the run gets new ids"
        return dict(read_record(LoggerIds, self.ids_path, way_out).ids)

    def begin(self) -> None:
        """Open a logger that is new to the run, and give it the settings."""
        try:
            self.logger = self.kind.open(self.folder, None)
            self.logger.log_hyperparams(dict(self.settings))
            self.logger.save()
            id = str(self.logger.version or "")
        except Exception as error:  # of any kind, by the package
            raise ConfigError(
                f"the logger '{self.name}' cannot be opened ({first_line(error)}): see to it, or "
                "leave it out of loggers"
            ) from error
        if self.kind.appends:
            write_json(self.ids_path, asdict(LoggerIds({**self.read_ids(), self.name: id})))

    def write(self, **row: Any) -> None:
        """Give one measurement to the logger, or keep it until the logger takes it."""
        step = row.pop("step")
        new = {name: value for name, value in row.items() if (step, name) not in self.logged}
        if new:
            self.logged |= {(step, name) for name in new}
            self.waiting.append({"step": step, **new})
        if time.monotonic() >= self.retry_at:
            self.send()

    def send(self) -> None:
        """Give the logger what waits for it."""
        try:
            if self.logger is None:
                self.logger = self.kind.open(self.folder, self.read_ids()[self.name] or None)
            while self.waiting:
                numbers = dict(self.waiting[0])
                step = numbers.pop("step")
                self.logger.log_metrics(numbers, step)
                self.waiting.popleft()
            self.logger.save()
        except Exception as error:  # of any kind, by the package or its server
            self.retry_at = time.monotonic() + RETRY_S
            warn(
                f"the logger '{self.name}' failed ({first_line(error)}): training goes "
                f"on, and it is tried again after {RETRY_S / 60:.0f} minutes",
            )

    def close(self, *, failed: bool) -> None:
        """Send what still waits, and end the run in the logger."""
        if self.waiting:
            self.send()
        if self.waiting:
            warn(
                f"the logger '{self.name}' did not take {len(self.waiting)} measurements "
                "of this run; metrics.jsonl has them all",
            )
        if self.logger is None:
            return
        try:
            self.logger.finalize("failed" if failed else "success")
            self.kind.end(self.logger.experiment)  # type: ignore[attr-defined]
        except Exception as error:  # of any kind, by the package or its server
            warn(
                f"the logger '{self.name}' did not end well ({first_line(error)})",
            )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
