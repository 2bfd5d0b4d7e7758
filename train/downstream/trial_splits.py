"""The parts of a dataset for verification, without the speakers of the test trials."""

from dataclasses import replace

import numpy as np

from aalbert.errors import ConfigError, InputError
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DRAWN, DownstreamConfig
from aalbert.train.downstream.splits import (
    SplitRows,
    check_splits,
    draw,
    rows_of_split,
    speakers_of,
    take_proportion,
)
from aalbert.train.downstream.trials import Pairs, draw_trials

# Of embeddings that are compared without a training part.
WITHOUT_CENTRE = "subtract no mean with --set trials.centred=false"


def verification_splits(config: DownstreamConfig, dataset: Dataset, pairs: Pairs) -> SplitRows:
    """Return splits whose training and dev part exclude the speakers, or utterances, of trials.

    A part that nothing is taken from may be empty, and its split absent. Raises `InputError` when
    another is empty, and where a calibration is asked for without dev trials of both kinds.
    """
    trials, untrained = config.trials, config.head.classifier == "none"
    without_train = untrained and not trials.read_training_part
    without_dev = untrained and trials.calibration == "none"
    speakers = speakers_of(dataset)
    excluded = np.isin(np.arange(len(dataset)), pairs.rows)
    if not trials.known_speakers:
        excluded |= np.isin(speakers, speakers[pairs.rows])
    rows = rows_of_part(dataset, config.splits.train, "train", config, optional=without_train)
    train = rows[~excluded[rows]]
    if len(train) == 0 and not without_train:
        also = f", or {WITHOUT_CENTRE}" if untrained and trials.normalisation == "none" else ""
        raise InputError(
            f"{dataset.place}: every speaker of the split '{config.splits.train}' is in the "
            f"trials, none is left to train on: allow them with --set trials.known_speakers=true"
            f"{also}"
        )
    if config.splits.dev != DRAWN:
        rows = rows_of_part(dataset, config.splits.dev, "dev", config, optional=without_dev)
        dev = rows[~excluded[rows]]
    else:
        dev = draw(dataset, train, speakers, config.splits, "dev")
        train = np.setdiff1d(train, dev)
    splits = SplitRows(train, dev, pairs.rows)
    check_splits(dataset, splits, without_train=without_train, without_dev=without_dev)
    if trials.calibration != "none":
        require_dev_trials(config, dataset, dev)
    return replace(splits, train=take_proportion(dataset, train, config.splits))


def rows_of_part(
    dataset: Dataset, split: str, part: str, config: DownstreamConfig, *, optional: bool
) -> Rows:
    """Return the rows of a split; none where it is optional and not there, else `ConfigError`."""
    centred = part == "train" and config.head.classifier == "none"
    try:
        return rows_of_split(dataset, split, part, f", or {WITHOUT_CENTRE}" if centred else "")
    except ConfigError:
        if optional:
            return np.empty(0, np.int64)
        raise


def require_dev_trials(config: DownstreamConfig, dataset: Dataset, rows: Rows) -> None:
    """Raise `InputError` where the dev part has no trials to fit a calibration on."""
    try:
        draw_trials(dataset, rows, config.trials.dev_count, config.seed)
    except InputError as error:
        raise InputError(
            f"{error} for trials.calibration {config.trials.calibration}: name another part with "
            "--set splits.dev=SPLIT, or leave it out with --set trials.calibration=none"
        ) from error
