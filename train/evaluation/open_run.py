"""Finished runs, opened to be measured."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aalbert.errors import ConfigError, require
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.train.downstream.build import DownstreamSetup, setup_of_model
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.sources import named_files
from aalbert.train.downstream.tasks import TASKS, VOXCELEB1
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.places import open_data, require_same_files
from aalbert.train.run_folder import EvaluationFolder, RunFolder

Part = Literal["test", "dev"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenRun:
    """A finished run with its model and its data, and the folder for the results of a test.

    The results are of the `test` part, or of the `dev` part that the best epoch was chosen on.
    """

    run: RunFolder
    config: DownstreamConfig
    setup: DownstreamSetup
    folder: EvaluationFolder
    part: Part = "test"


def open_run(
    run: RunFolder, data: Path | str | None = None, corpus: WaveCorpus | None = None
) -> OpenRun:
    """Open a finished run, to be tested on its own test part.

    `data` is the current location of its dataset, if it was moved, that of `corpus` the one of the
    corpus whose waves its upstream reads. Raises `InputError` when the run is unfinished and
    `IntegrityError` when the data is not what it was trained on.
    """
    record = run.read_record()
    if record["task"] not in TASKS:
        raise ConfigError(
            f"{run.path} is a run of '{record['task']}': evaluate a downstream run, "
            f"made by 'aalbert downstream {VOXCELEB1.name} --upstream {run.path}'"
        )
    model = DownstreamModel.from_pretrained(run.path).to(best_device())
    dataset = open_data(record, data)
    config = run.read_config(DownstreamConfig)
    require_same_files(record, named_files(config))
    setup = setup_of_model(config, dataset, model, corpus and corpus.or_recorded(record))
    return OpenRun(run=run, config=config, setup=setup, folder=EvaluationFolder(run.path))


def on_part(opened: OpenRun, part: Part) -> OpenRun:
    """Return a run to be measured on its `dev` part, with a folder for that; else as it is.

    Raises `ConfigError` when it has none.
    """
    if part == "test":
        return opened
    path = opened.run.path
    require(
        len(opened.setup.splits.dev) > 0,
        f"{path} has no dev part, so nothing can be measured on it: leave out --split",
    )
    folder = EvaluationFolder(path / "splits" / part)
    return replace(opened, folder=folder, part=part)
