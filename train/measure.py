"""How a finished downstream run does on a part of its data: all that `evaluate` starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.configuration import load_config
from aalbert.errors import ConfigError
from aalbert.models.classifier import SpeakerClassifier
from aalbert.shards.dataset import Dataset
from aalbert.shards.order import Rows
from aalbert.train.configs import DownstreamConfig
from aalbert.train.downstream import TASK
from aalbert.train.identification import evaluation_loader, name_classes, score
from aalbert.train.outcomes import Decisions, Outcome
from aalbert.train.run_folder import RunFolder, open_data


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What a run's model said of a part, with the model and the data it was measured on.

    `rows` are those of `train`, `dev` and `test`; `class_of_row` is the class of every dataset
    row or -1, None where utterances have no class. `chance` is what guessing would get,
    `majority` what naming always the most frequent class of the training part would. `head` is
    the head in words.
    """

    outcome: Outcome
    model: SpeakerClassifier
    dataset: Dataset
    config: DownstreamConfig
    task: str
    head: str
    chance: float
    majority: float | None
    class_of_row: NDArray[np.int64] | None
    rows: Mapping[str, Rows]


def measure(run: RunFolder, data: Path | str | None = None) -> Measured:
    """Measure a finished run on the test part of its data.

    `data` is where its dataset lies now, if it was moved. Raises `InputError` when the run is
    unfinished and `IntegrityError` when the data is not what it was trained on.
    """
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(
            f"{run.path} is a run of '{record['task']}': evaluate a downstream run, "
            f"made by 'aalbert downstream {TASK} --upstream {run.path}'"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = SpeakerClassifier.from_pretrained(run.path).to(device)
    dataset = open_data(record, data)
    config = load_config(DownstreamConfig, file=run.config, environment={})
    speakers = name_classes(dataset, model.speakers)
    feature = str(model.upstream.config.features["kind"])
    rows = speakers.rows(dataset, config.test_split)
    loader = evaluation_loader(dataset, rows, feature, config.batch_seconds, config.prefetch)
    scores = score(model, loader, speakers)
    best = scores.scores.argsort(dim=1, descending=True)[:, :5]
    outcome = Decisions(
        names=model.speakers,
        rows=scores.rows,
        counted=np.ones(len(scores.rows), np.int64),
        right=scores.correct.astype(np.int64),
        confusion=scores.confusion(),
        truth=scores.classes.numpy(),
        named=best[:, 0].numpy(),
        top_5=(best == scores.classes[:, None]).any(dim=1).numpy(),
    )
    return Measured(
        outcome=outcome,
        model=model,
        dataset=dataset,
        config=config,
        task=TASK,
        head="mean over frames, linear",
        chance=1 / len(model.speakers),
        majority=None,
        class_of_row=speakers.class_of_row.numpy(),
        rows={
            "train": speakers.rows(dataset, config.train_split),
            "dev": speakers.rows(dataset, config.dev_split),
            "test": rows,
        },
    )
