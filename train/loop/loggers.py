"""Loggers that receive the measurements besides the run's own files: extras of the package."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from aalbert.common.files import write_json
from aalbert.common.json_files import Matching, read_record
from aalbert.errors import ConfigError

LoggerName = Literal["tensorboard", "wandb"]


class Recorder(Protocol):
    """An object that measurements are written to."""

    def write(self, **row: Any) -> None:
        """Record one measurement: `step`, and numbers by name."""


class Recorders:
    """Several recorders, or none, as one."""

    def __init__(self, *recorders: Recorder) -> None:
        self.recorders = recorders

    def write(self, **row: Any) -> None:
        """Write one measurement to all of them."""
        for recorder in self.recorders:
            recorder.write(**row)


class TensorBoard:
    """Writes measurements as scalars into `tensorboard/` in the run's folder."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run measures everything after `first_step` again.
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def write(self, **row: Any) -> None:
        """Write one measurement."""
        step = row.pop("step")
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


@dataclass(frozen=True)
class WandbRun:
    """What `wandb.json` holds: the id under which a run goes on."""

    id: Annotated[str, Matching("^[0-9a-f]{8}$")]


class WeightsAndBiases:
    """Logs measurements to Weights & Biases, or only into `wandb/` with `WANDB_MODE=offline`.

    The id of the run there is made once and kept in `wandb.json`, so that a resumed run goes on
    under it.
    """

    def __init__(self, folder: Path, **_: int) -> None:
        import wandb

        path = folder / "wandb.json"
        if not path.is_file():
            write_json(path, asdict(WandbRun(secrets.token_hex(4))))
        self.run = wandb.init(
            dir=folder,
            id=read_record(WandbRun, path, "delete it, and the run gets a new id").id,
            name=folder.name,
            resume="allow",
            # Its metadata has the command, and so the secrets of URLs; `run.json` has it without.
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True),
        )
        # Not by the number of records: a resumed run makes some of them again.
        self.run.define_metric("*", step_metric="step")

    def write(self, **row: Any) -> None:
        """Log one measurement."""
        self.run.log(row)


LOGGERS: Mapping[LoggerName, Callable[..., Recorder]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def require_installed(names: Sequence[LoggerName]) -> None:
    """Raise `ConfigError` when the package of a logger is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"the logger '{name}' is not installed: pip install 'aalbert[{name}]', or leave "
                "it out of loggers"
            )
