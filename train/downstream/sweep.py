"""`sweep`: a task trained with every combination of settings, compared on the dev part."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aalbert.common.files import remove_unfinished, write_json
from aalbert.common.locking import hold_where_possible
from aalbert.common.text import duration, text_table
from aalbert.errors import DivergedError, require
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.estimate import estimate_downstream
from aalbert.train.downstream.grid import Assignments, folder_name
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.downstream.selection import best_measurement, describe_measurement, quality_of
from aalbert.train.downstream.sources import find_sources, with_lasting_paths
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.loop.ranks import find_ranks
from aalbert.train.run_folder import SWEEP_NAME, RunFolder
from aalbert.train.upstreams import lasting_upstream

STATES_FOLDER = "states"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A combination of settings, its run, and its best measurement on the dev part.

    A run that diverged has none, and the reason instead.
    """

    settings: Assignments
    run: str
    best: dict[str, Any] | None
    diverged: str | None = None

    @property
    def order(self) -> tuple[float, ...]:
        """What points are sorted by, the best one first; those that diverged are last."""
        return (math.inf,) if self.best is None else tuple(-each for each in quality_of(self.best))


@dataclass(frozen=True, kw_only=True)
class PlannedPoint:
    """A combination of settings, its run, and the work that is left of it.

    It is to `train`, to `resume` what was interrupted, or to `keep` what is there. The first one
    that is not kept has the `seconds` that its whole run is estimated to take.
    """

    settings: Assignments
    run: str
    work: str
    epochs: int
    seconds: float | None = None


def run_sweep(
    grid: Sequence[Assignments],
    configure: Callable[[Assignments], DownstreamConfig],
    data: Path | str,
    upstream: str,
    out: Path,
    corpus: WaveCorpus | None = None,
) -> list[Point]:
    """Train every point of a grid in a folder of its own below `out`; return the best one first.

    `configure` turns a point into settings. Finished runs are kept and interrupted ones resumed,
    so that the same command continues a sweep. A run that diverges is the last of the points, and
    ends nothing. All runs share the cached hidden states. The test part is never read.
    """
    require_one_process()
    dataset, upstream = Dataset(data), lasting_upstream(upstream)
    configs = configure_points(grid, configure, dataset)
    runs = {point: RunFolder(out / folder_name(point)) for point in grid}
    states = out / STATES_FOLDER
    with hold_where_possible(states / "lock"):
        remove_unfinished(out)
        for point, config in configs.items():
            if runs[point].record.is_file():
                require_same_run(runs[point], config, dataset, upstream)
        points = []
        for point, config in configs.items():
            run, best, diverged = runs[point], None, None
            try:
                train_point(run, config, data, upstream, states, corpus)
                best = best_measurement(run.read_metrics())
                require(bool(best), f"{run.path} has no trials on dev to compare settings by")
            except DivergedError as error:
                diverged = str(error)
                run.add_to_record({"diverged": diverged})
            points.append(Point(settings=point, run=str(run.path), best=best, diverged=diverged))
        points.sort(key=lambda point: point.order)
        write_json(out / SWEEP_NAME, {"points": [asdict(point) for point in points]})
    return points


def plan_sweep(
    grid: Sequence[Assignments],
    configure: Callable[[Assignments], DownstreamConfig],
    data: Path | str,
    upstream: str,
    out: Path,
    corpus: WaveCorpus | None = None,
) -> list[PlannedPoint]:
    """Return what `run_sweep` would do for every point of a grid, in its order; write nothing.

    Raises the errors that it would raise before the first step of the first one.
    """
    require_one_process()
    dataset, upstream = Dataset(data), lasting_upstream(upstream)
    planned: list[PlannedPoint] = []
    for point, config in configure_points(grid, configure, dataset).items():
        run, work = RunFolder(out / folder_name(point)), "train"
        if run.record.is_file():
            require_same_run(run, config, dataset, upstream)
            ended = run.has_model() or run.read_record().get("diverged")
            work = "keep" if ended else "resume"
        seconds = None
        if work != "keep" and all(each.work == "keep" for each in planned):
            seconds = estimate_downstream(config, data, upstream, corpus).seconds
        planned.append(
            PlannedPoint(
                settings=point,
                run=str(run.path),
                work=work,
                epochs=config.epochs,
                seconds=seconds,
            )
        )
    return planned


def require_one_process() -> None:
    """Raise `ConfigError` where several processes share a run."""
    require(
        find_ranks().size == 1,
        "a sweep trains its points one after another in one process: start it without torchrun or "
        "srun",
    )


def configure_points(
    grid: Sequence[Assignments],
    configure: Callable[[Assignments], DownstreamConfig],
    dataset: Dataset,
) -> dict[Assignments, DownstreamConfig]:
    """Return the settings of every point; `ConfigError` when those of two are the same."""
    configs = {point: with_lasting_paths(configure(point), dataset) for point in grid}
    for one, other in itertools.combinations(grid, 2):
        require(
            configs[one] != configs[other],
            f"{' '.join(one)} and {' '.join(other)} are the same settings: leave one out",
        )
    return configs


def train_point(
    run: RunFolder,
    config: DownstreamConfig,
    data: Path | str,
    upstream: str,
    states: Path,
    corpus: WaveCorpus | None,
) -> None:
    """Train a point unless it was; `DivergedError` when it diverges, or did before."""
    if not run.record.is_file():
        start_downstream(config, data, upstream, run.path, states=states, corpus=corpus)
    elif not run.has_model():
        if diverged := run.read_record().get("diverged"):
            raise DivergedError(diverged)
        resume_downstream(
            run.path, config.task, states=states, data=data, upstream=upstream, corpus=corpus
        )
    elif run.lock.exists():
        # A process was killed between its last file and its end.
        with run.hold():
            pass


def require_same_run(
    run: RunFolder, config: DownstreamConfig, dataset: Dataset, upstream: str
) -> None:
    """Raise `ConfigError` when a run has other settings, data, files or weights than this sweep."""
    record, sources = run.read_record(), find_sources(config, dataset, upstream)
    # The same weights may lie elsewhere.
    here = sources["upstream_weights"] or sources["upstream"]
    there = record["upstream_weights"] or record["upstream"]
    same = {
        "set of settings": run.read_config(DownstreamConfig) == config,
        "upstream": here == there,
        "dataset": record["data_fingerprint"] == sources["data_fingerprint"],
        **{
            f"file ({setting})": record["files"].get(setting) == digest
            for setting, digest in sources["files"].items()
        },
    }
    for what, is_same in same.items():
        require(is_same, f"{run.path} holds a run with another {what}: choose another --out")


def sweep_table(points: Sequence[Point]) -> str:
    """Return all points as lines of text, in their order."""
    return text_table(
        [
            (
                " ".join(point.settings),
                describe_measurement(point.best) if point.best else "diverged",
            )
            for point in points
        ]
    )


def plan_table(points: Sequence[PlannedPoint]) -> str:
    """Return the work that is left of a sweep as lines of text."""
    left = sum(point.work != "keep" for point in points)
    lines = text_table([(" ".join(point.settings), point.work, point.run) for point in points])
    first = "".join(
        f", the first in about {duration(point.seconds)}"
        for point in points
        if point.seconds is not None
    )
    return (
        f"{lines}\n{len(points)} points, {left} of them are to be trained{first}; nothing was "
        "written"
    )
