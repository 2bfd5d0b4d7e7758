"""Further places for measurements, beside the files that every run has: extras of the package."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from aalbert.common.files import write_json
from aalbert.errors import ConfigError
from aalbert.train.loop.config import LoggerName


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


class TensorBoard:
    """Writes measurements as scalars below `tensorboard/` in the run's folder."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Of a continued run, what was measured after `first_step` comes again.
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def write(self, **row: Any) -> None:
        """Write one measurement."""
        step = row.pop("step")
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


class WeightsAndBiases:
    """Logs measurements to Weights & Biases, or with `WANDB_MODE=offline` into `wandb/` alone.

    A continued run goes on under its own name there.
    """

    def __init__(self, folder: Path, **_: int) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off")
        run_id = self.id_of(folder)
        self.run = wandb.init(
            dir=folder, id=run_id, name=folder.name, resume="allow", settings=settings
        )

    @staticmethod
    def id_of(folder: Path) -> str:
        """Return the name of the run there, made when it is first asked for."""
        path = folder / "wandb.json"
        if not path.is_file():
            write_json(path, {"id": secrets.token_hex(4)})
        return str(json.loads(path.read_text("utf-8"))["id"])

    def write(self, **row: Any) -> None:
        """Log one measurement."""
        self.run.log(row)


LOGGERS: Mapping[LoggerName, Callable[..., Recorder]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def open_loggers(names: Sequence[LoggerName], folder: Path, *, first_step: int) -> list[Recorder]:
    """Return the loggers with these names, which must be installed."""
    return [LOGGERS[name](folder, first_step=first_step) for name in names]


def require_installed(names: Sequence[LoggerName]) -> None:
    """Raise `ConfigError` when the package of a logger is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"the logger '{name}' is not installed: pip install 'aalbert[{name}]', or leave "
                "it out of loggers"
            )
