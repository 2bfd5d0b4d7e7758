"""The setup of a downstream run from its config: upstream, model, labels, splits of the dataset."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.common.hub import find_hub_place
from aalbert.common.notes import note, warn
from aalbert.errors import ConfigError, InputError
from aalbert.models.downstream import DownstreamModel
from aalbert.models.encoder_names import find_encoder_on_hub
from aalbert.models.upstream import UpstreamConfig
from aalbert.models.wave_encoders.wave_upstream import WaveUpstreamConfig
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import (
    DRAWN,
    DownstreamConfig,
    SplitConfig,
)
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.labels import (
    NO_CLASS,
    ColumnLabels,
    assign_classes,
    find_classes,
    require_training_data,
)
from aalbert.train.downstream.left_out import LeftOut, left_out_of_test
from aalbert.train.downstream.numbers import NumberLabels, constant, find_numbers
from aalbert.train.downstream.objectives import TaskLabels, predicted_by
from aalbert.train.downstream.phone_sequences import (
    PhoneSequences,
    find_phone_sequences,
    note_short,
)
from aalbert.train.downstream.phones import FrameLabels, find_aligned, find_phones
from aalbert.train.downstream.splits import (
    SplitRows,
    require_splits,
    speaker_names,
    split_rows,
)
from aalbert.train.downstream.tasks import find_task, hint_of_task
from aalbert.train.downstream.trial_splits import verification_splits
from aalbert.train.downstream.trials import Pairs, read_trials
from aalbert.train.downstream.upstream import check_baseline, check_wave_encoder, open_upstream
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.hub_datasets import hub_dataset
from aalbert.train.randomness import seed_of
from aalbert.train.upstreams import check_feature_settings


@dataclass(frozen=True, eq=False)
class DownstreamSetup:
    """A model with its head, the labels it learns, and the rows of each part of the dataset.

    `pairs` are the test trials of verification, `left_out` what the test part lacks of its split.
    """

    inputs: Inputs
    model: DownstreamModel
    labels: TaskLabels
    splits: SplitRows
    pairs: Pairs | None = None
    left_out: LeftOut | None = None

    @property
    def dataset(self) -> Dataset:
        """The dataset."""
        return self.inputs.dataset


@dataclass(frozen=True, eq=False)
class TaskData:
    """The splits of a task, its labels unless they depend on the upstream, and its test trials.

    `left_out` is what the test part lacks of its split.
    """

    splits: SplitRows
    labels: ColumnLabels | NumberLabels | PhoneSequences | None = None
    pairs: Pairs | None = None
    left_out: LeftOut | None = None


def build_setup(
    config: DownstreamConfig, dataset: Dataset, upstream: str, corpus: WaveCorpus | None = None
) -> DownstreamSetup:
    """Find splits and labels, open the upstream, and put a fresh head on it.

    An upstream that reads waves has them from the `corpus`. The head is the same for the same seed.
    Raises `ConfigError` or `InputError` when they do not fit.
    """
    check_baseline(config, upstream)
    check_wave_encoder(config, upstream, corpus)
    data = find_task_data(config, dataset)
    opened = open_upstream(
        upstream,
        dataset,
        data.splits.train,
        untrained=config.untrained or config.mode == "from-scratch",
        seed=config.seed,
        baseline=config.baseline,
    )
    inputs = find_inputs(dataset, opened.config, corpus)
    labels = data.labels or find_frame_labels(config, inputs, data.splits)
    warn_of_one_class(data)
    if isinstance(labels, PhoneSequences):
        note_short(labels, dataset, inputs.frame_counts(), data.splits.train)
    torch.manual_seed(seed_of(config.seed, "head"))
    # Plain features are one state, with nothing to mix.
    layers = "last" if opened.states == 1 and isinstance(config.layers, str) else config.layers
    model = DownstreamModel(
        opened,
        # Without a classifier nothing knows the classes.
        [] if config.head.classifier == "none" else labels.names,
        layers,
        config.head,
        frozen=config.mode == "frozen",
        predicts=predicted_by(labels),
        training=describe_training(config, dataset, data.splits, upstream),
    )
    if isinstance(labels, NumberLabels):
        model.head.scale_numbers(labels.mean, labels.deviation)
    return DownstreamSetup(inputs, model, labels, data.splits, data.pairs, data.left_out)


def find_inputs(
    dataset: Dataset, upstream: UpstreamConfig | WaveUpstreamConfig, corpus: WaveCorpus | None
) -> Inputs:
    """Return what an upstream reads of a dataset; its waves come from the corpus."""
    if isinstance(upstream, UpstreamConfig):
        return Inputs(dataset, upstream)
    if corpus is None or corpus.place is None:
        raise ConfigError(
            f"{upstream.name} reads waves: name the corpus that {dataset.place} was prepared from "
            "with --corpus DIR"
        )
    return Inputs(dataset, upstream, corpus.open(dataset, corpus.place))


def describe_training(
    config: DownstreamConfig, dataset: Dataset, splits: SplitRows, upstream: str
) -> dict[str, Any]:
    """Return the facts about the training of a head that are saved with it.

    Its upstream is named where others can find it: on the hub.
    """
    source = find_task(config.task).labels
    takes_weights = not config.untrained and config.mode != "from-scratch"
    place = None
    if takes_weights:
        place = find_encoder_on_hub(upstream) or find_hub_place(upstream)
    return {
        "task": config.task,
        "labels": "phone" if source in ("alignments", "lexicon") else config.labels.column,
        "corpus": dataset.manifest.corpus,
        "hub_datasets": [hub_dataset(dataset.manifest)],
        "upstream": place.url if place else None,
        "data_fingerprint": dataset.manifest.fingerprint,
        "training_utterances": len(splits.train),
        "mode": config.mode,
        "untrained": config.untrained,
        "epochs": config.epochs,
        "seed": config.seed,
    }


def setup_of_model(
    config: DownstreamConfig,
    dataset: Dataset,
    model: DownstreamModel,
    corpus: WaveCorpus | None = None,
) -> DownstreamSetup:
    """Return the setup of a model that is already trained; see `build_setup`."""
    data = find_task_data(config, dataset)
    warn_of_one_class(data)
    upstream = model.upstream.config
    if isinstance(upstream, UpstreamConfig):
        check_feature_settings("the model", upstream, dataset)
    inputs = find_inputs(dataset, upstream, corpus)
    labels = data.labels or find_frame_labels(config, inputs, data.splits)
    return DownstreamSetup(inputs, model, labels, data.splits, data.pairs, data.left_out)


def find_task_data(config: DownstreamConfig, dataset: Dataset) -> TaskData:
    """Return what a task takes from the dataset, its settings and the files that they name."""
    source = find_task(config.task).labels
    if source != "trials":
        require_splits(dataset, config.splits, hint_of_task(config.task, dataset.manifest.corpus))
    if source == "alignments":
        aligned = find_aligned(dataset, config.labels)
        note_unaligned(dataset, config.splits, aligned)
        splits = split_rows(dataset, config.splits, aligned)
        return TaskData(splits, left_out=without(dataset, config, aligned, "no alignment"))
    if source == "trials":
        return find_trials(config, dataset)
    if source == "number":
        return find_regression(config, dataset)
    if source == "lexicon":
        rows = dataset.rows([config.splits.train, *unlisted_splits(config.splits)])
        sequences = find_phone_sequences(dataset, config.labels, rows)
        splits = split_rows(dataset, config.splits, sequences.row_classes())
        left_out = left_out_of_test(dataset, config.splits, sequences.left_out)
        return TaskData(splits, sequences, left_out=left_out)
    labels = find_classes(dataset, config.labels, dataset.rows([config.splits.train]))
    splits = split_rows(dataset, config.splits, labels.row_classes(), config.labels.column)
    require_training_data(dataset, labels, config.labels.column, splits.train)
    left_out = without(dataset, config, labels.row_classes(), "no class")
    return TaskData(splits, labels, left_out=left_out)


def without(
    dataset: Dataset, config: DownstreamConfig, classes: NDArray[np.int64], reason: str
) -> LeftOut | None:
    """Return what the test part lacks where rows without a class are left out."""
    return left_out_of_test(dataset, config.splits, {reason: np.flatnonzero(classes == NO_CLASS)})


def find_regression(config: DownstreamConfig, dataset: Dataset) -> TaskData:
    """Return the splits of the utterances that have a number, and their numbers."""
    column = config.labels.column
    numbers = find_numbers(dataset, column, config.regression)
    known = np.where(np.isnan(numbers), NO_CLASS, 0)
    splits = split_rows(dataset, config.splits, known, column)
    learned = numbers[splits.train]
    if constant(learned):
        raise InputError(
            f"{dataset.place}: the {column} of all {len(learned)} utterances to train on is "
            f"{learned[0]:g}: there is nothing to learn; name another column or other splits"
        )
    labels = NumberLabels(numbers, splits.train, config.regression)
    return TaskData(splits, labels, left_out=without(dataset, config, known, "no number"))


def note_unaligned(dataset: Dataset, splits: SplitConfig, aligned: NDArray[np.int64]) -> None:
    """Say on stderr how many utterances of splits without a list have no alignment."""
    unlisted = unlisted_splits(splits)
    rows = dataset.rows(unlisted) if unlisted else np.empty(0, np.int64)
    if missing := int((aligned[rows] == NO_CLASS).sum()):
        note(
            f"left out {missing} of {len(rows)} utterances that have no alignment",
        )


def unlisted_splits(splits: SplitConfig) -> list[str]:
    """Return the splits of which whole parts are taken, without a list."""
    return [
        split
        for split, path in (
            (splits.train, splits.train_list),
            (splits.dev, splits.dev_list),
            (splits.test, splits.test_list),
        )
        if split != DRAWN and not path
    ]


def warn_of_one_class(data: TaskData) -> None:
    """Warn on stderr of a part to measure on that has a single class, as few speakers can have."""
    if not isinstance(data.labels, ColumnLabels) or data.pairs is not None:
        return
    names, classes = data.labels.names, data.labels.row_classes()
    for name, rows in (("dev", data.splits.dev), ("test", data.splits.test)):
        found = np.unique(classes[rows])
        if len(found) == 1:
            warn(
                f"the {name} part is all of one class, '{names[found[0]]}': its "
                "accuracy is meaningless; raise splits.drawn_proportion, or draw again with "
                "another splits.draw_seed",
            )


def find_trials(config: DownstreamConfig, dataset: Dataset) -> TaskData:
    """Return the trials, the splits without their speakers, and the speakers to train on."""
    pairs = read_trials(config.trials.test, dataset)
    splits = verification_splits(config, dataset, pairs)
    if config.head.classifier == "none":
        column = config.labels.column
        return TaskData(splits, assign_classes(dataset, column, speaker_names(dataset)), pairs)
    return TaskData(splits, find_classes(dataset, config.labels, splits.train), pairs)


def find_frame_labels(config: DownstreamConfig, inputs: Inputs, splits: SplitRows) -> FrameLabels:
    """Return the phones of all parts, as labels of the upstream's frames."""
    rows = np.sort(np.concatenate([splits.train, splits.dev, splits.test]))
    return find_phones(inputs, config.labels, rows)
