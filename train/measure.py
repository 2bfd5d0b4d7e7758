"""How a finished downstream run does on a part of its data: all that `evaluate` starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aalbert.common.configuration import load_config
from aalbert.errors import ConfigError
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import Job, job_of_model
from aalbert.train.downstream.config import TASK_NAMES, DownstreamConfig
from aalbert.train.downstream.labels import ColumnLabels
from aalbert.train.downstream.scoring import decide, embed_all, score_trials, whole_utterances
from aalbert.train.outcomes import Decisions, Outcome
from aalbert.train.run_folder import RunFolder, open_data


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What a run's model said of a part, with the model and the data it was measured on.

    `chance` is what guessing would get, `majority` what naming always the most frequent class
    of the training part would. `class_of_row` is the class of every row of the dataset or below
    0, None for frames and trials; `rows` has the rows of `train`, `dev` and `test`. `head` is
    the head in words.
    """

    outcome: Outcome
    model: DownstreamModel
    dataset: Dataset
    config: DownstreamConfig
    task: str
    head: str
    chance: float
    majority: float | None
    class_of_row: NDArray[np.int64] | None
    rows: Mapping[str, Rows]


def measure(run: RunFolder, data: Path | str | None = None, split: str = "test") -> Measured:
    """Measure a finished run on the `test` or the `dev` part of its data.

    `data` is where its dataset lies now, if it was moved. Raises `InputError` when the run is
    unfinished and `IntegrityError` when the data is not what it was trained on.
    """
    record = run.read_record()
    if record["task"] not in TASK_NAMES:
        raise ConfigError(
            f"{run.path} is a run of '{record['task']}': evaluate a downstream run, "
            f"made by 'aalbert downstream voxceleb1 --upstream {run.path}'"
        )
    device = best_device()
    model = DownstreamModel.from_pretrained(run.path).to(device)
    dataset = open_data(record, data)
    config = load_config(DownstreamConfig, file=run.config, environment={})
    job = job_of_model(config, dataset, model)
    rows: Rows = getattr(job.parts, split)
    loader = whole_utterances(dataset, rows, job.feature, config.batch_seconds, config.prefetch)
    if job.pairs is not None:
        outcome: Outcome = score_trials(*embed_all(model, loader), job.pairs)
        chance, majority = 0.5, None
    else:
        outcome, _ = decide(model, loader, job.labels.to(device))
        chance, majority = 1 / len(model.classes), majority_share(job, outcome)
    return Measured(
        outcome=outcome,
        model=model,
        dataset=dataset,
        config=config,
        task=config.task,
        head=config.head.describe(),
        chance=chance,
        majority=majority,
        class_of_row=None if job.pairs or config.head.frames else row_classes(job),
        rows={"train": job.parts.train, "dev": job.parts.dev, "test": job.parts.test},
    )


def row_classes(job: Job) -> NDArray[np.int64]:
    """Return the class of every row of the dataset, below 0 where it has none."""
    assert isinstance(job.labels, ColumnLabels)
    return job.labels.row_classes()


def majority_share(job: Job, decisions: Decisions) -> float:
    """Return how right it would be to name always the most frequent class of the training part."""
    items = decisions.confusion.sum(axis=1)
    return float(items[job.labels.cpu().majority(job.parts.train)] / np.maximum(1, items.sum()))
