"""Where measurements are recorded: the run's own files and loggers, on the first rank."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from aalbert.errors import InterruptedRunError
from aalbert.models.training_states import step_of
from aalbert.train.loop.config import LoggerName
from aalbert.train.loop.loggers import LoggerOfRun
from aalbert.train.loop.ranks import Ranks
from aalbert.train.measurements import MetricsWriter, read_measurements
from aalbert.train.run_folder import SETTINGS, RunFolder


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


@contextmanager
def recording(
    run: RunFolder,
    columns: Sequence[str],
    loggers: Sequence[LoggerName],
    ranks: Ranks,
    state: Path | None,
) -> Iterator[Recorder]:
    """Yield the recorder of a run's measurements, which records on the first rank only.

    Measurements after the step of `state` are dropped from the run's files, since they are made
    again. Loggers end their run with the block.
    """
    if not ranks.first:
        yield Recorders()
        return
    run.require_writable()
    history = read_measurements(run.metrics)
    writer = MetricsWriter(run.metrics, columns, first_step=step_of(state) if state else 0)
    record = run.read_record()
    facts = {name: record[name] for name in ("task", "data", "upstream") if name in record}
    settings = {**facts, **record[SETTINGS]}
    opened: list[LoggerOfRun] = []
    failed = True
    try:
        for name in loggers:
            opened.append(LoggerOfRun(name, run.path, settings, history, writer.kept))
        yield Recorders(writer, *opened)
        failed = False
    except InterruptedRunError:
        failed = False
        raise
    finally:
        for logger in opened:
            logger.close(failed=failed)
