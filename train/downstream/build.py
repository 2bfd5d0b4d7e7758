"""From a config to what a downstream run needs: upstream, model, labels, parts of the dataset."""

import sys
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from aalbert.errors import ConfigError, InputError
from aalbert.models.downstream import DownstreamModel
from aalbert.models.front_end import FrontEnd, FrontEndConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND, settings_from_dict
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DRAWN, BaselineConfig, DownstreamConfig, chance_only
from aalbert.train.downstream.labels import ColumnLabels, find_classes, name_classes, require_known
from aalbert.train.downstream.phones import FrameLabels, find_phones
from aalbert.train.downstream.splits import (
    Parts,
    check_parts,
    draw,
    speaker_names,
    speakers_of,
    split_rows,
    take_proportion,
)
from aalbert.train.downstream.tasks import find_task
from aalbert.train.downstream.trials import Pairs, read_trials
from aalbert.train.randomness import seed_of

TaskLabels = ColumnLabels | FrameLabels


@dataclass(frozen=True, eq=False)
class Job:
    """A model with a fresh head, what it is to tell apart, and where.

    `pairs` are the test trials of verification.
    """

    dataset: Dataset
    model: DownstreamModel
    labels: TaskLabels
    parts: Parts
    pairs: Pairs | None = None

    @property
    def feature(self) -> str:
        """The stored feature that the upstream reads."""
        return str(self.model.upstream.config.features["kind"])


@dataclass(frozen=True, eq=False)
class Material:
    """The parts, the classes if they are found without an upstream, and the test trials."""

    parts: Parts
    labels: ColumnLabels | None = None
    pairs: Pairs | None = None


def build_job(config: DownstreamConfig, dataset: Dataset, upstream: str) -> Job:
    """Find parts and labels, open the upstream, and put a fresh head on it.

    Raises `ConfigError` or `InputError` when they do not fit.
    """
    check_baseline(config, upstream)
    material = find_material(config, dataset)
    opened = open_for(config, dataset, upstream, material.parts.train)
    labels = material.labels or find_frame_labels(config, dataset, material.parts, opened)
    warn_of_one_class(material)
    return Job(dataset, put_head(config, opened, labels), labels, material.parts, material.pairs)


def job_of_model(config: DownstreamConfig, dataset: Dataset, model: DownstreamModel) -> Job:
    """Return the job of a model that is there already."""
    found = find_material(config, dataset)
    warn_of_one_class(found)
    labels = found.labels or find_frame_labels(config, dataset, found.parts, model.upstream)
    return Job(dataset, model, labels, found.parts, found.pairs)


def find_material(config: DownstreamConfig, dataset: Dataset) -> Material:
    """Return what a task takes from the dataset, its settings and the files they name."""
    source = find_task(config.task).labels
    if source == "alignments":
        return Material(split_rows(dataset, config.splits, np.zeros(len(dataset), np.int64)))
    if source == "trials":
        return find_trials(config, dataset)
    labels = find_classes(dataset, config.labels, dataset.rows([config.splits.train]))
    parts = split_rows(dataset, config.splits, labels.row_classes())
    require_known(dataset, labels, config.labels.column, parts.train)
    return Material(parts, labels)


def warn_of_one_class(material: Material) -> None:
    """Say on stderr when a part to be measured on is all of one class, as few speakers can be."""
    parts, labels = material.parts, material.labels
    if labels is None or material.pairs is not None:
        return
    for name, rows in (("dev", parts.dev), ("test", parts.test)):
        found = np.unique(labels.row_classes()[rows])
        if len(found) == 1:
            print(
                f"warning: the {name} part is all of one class, '{labels.names[found[0]]}': its "
                "accuracy tells nothing apart; raise splits.drawn_proportion, or draw again with "
                "another splits.draw_seed",
                file=sys.stderr,
            )


def find_trials(config: DownstreamConfig, dataset: Dataset) -> Material:
    """Return trials, the parts without their speakers, and the speakers to train on."""
    if not config.trials.test:
        raise ConfigError("trials.test is not set: name the list of trials to test on")
    pairs = read_trials(config.trials.test, dataset)
    parts = verification_parts(config, dataset, pairs)
    if config.head.classifier == "none":
        column = config.labels.column
        return Material(parts, name_classes(dataset, column, speaker_names(dataset)), pairs)
    return Material(parts, find_classes(dataset, config.labels, parts.train), pairs)


def find_frame_labels(
    config: DownstreamConfig, dataset: Dataset, parts: Parts, upstream: Upstream
) -> FrameLabels:
    """Return the phones of all parts, as labels of the upstream's frames."""
    rows = np.sort(np.concatenate([parts.train, parts.dev, parts.test]))
    return find_phones(dataset, config.labels, rows, upstream.config)


def verification_parts(config: DownstreamConfig, dataset: Dataset, pairs: Pairs) -> Parts:
    """Return training and dev part without the speakers of the trials, or their utterances."""
    speakers = speakers_of(dataset)
    barred = np.isin(np.arange(len(dataset)), pairs.rows)
    if not config.trials.known_speakers:
        barred |= np.isin(speakers, speakers[pairs.rows])
    rows = dataset.rows([config.splits.train])
    train = rows[~barred[rows]]
    if len(train) == 0:
        raise InputError(
            f"{dataset.place}: every speaker of the split '{config.splits.train}' is in the "
            "trials, none is left to train on: with --set trials.known_speakers=true they may be"
        )
    if config.splits.dev != DRAWN:
        rows = dataset.rows([config.splits.dev])
        dev = rows[~barred[rows]]
    else:
        dev = draw(dataset, train, speakers, config.splits, "dev")
        train = np.setdiff1d(train, dev)
    parts = Parts(train, dev, pairs.rows)
    check_parts(dataset, parts)
    return Parts(take_proportion(dataset, train, config.splits), dev, pairs.rows)


def check_baseline(config: DownstreamConfig, upstream: str) -> None:
    """Refuse plain features where they cannot be used, or can only give chance."""
    if upstream not in SETTINGS_BY_KIND:
        return
    if config.mode != "frozen":
        raise ConfigError(
            f"--mode {config.mode} needs an encoder, and --upstream {upstream} has none"
        )
    if chance_only(config.head, config.baseline):
        raise ConfigError(
            f"{upstream} normalised per utterance has the same mean (0) and deviation (1) in every "
            f"utterance, so that {config.head.pooling} pooling leaves nothing to tell them apart "
            "by, and chance is all it can give: use --set baseline.normalisation=global"
        )


def open_for(config: DownstreamConfig, dataset: Dataset, upstream: str, train: Rows) -> Upstream:
    """Return the upstream of a run, with fresh weights where the run asks for them."""
    return open_upstream(
        upstream,
        dataset,
        train,
        untrained=config.untrained or config.mode == "from-scratch",
        seed=config.seed,
        baseline=config.baseline,
    )


def put_head(config: DownstreamConfig, upstream: Upstream, labels: TaskLabels) -> DownstreamModel:
    """Return a model with a fresh head, the same for the same seed."""
    torch.manual_seed(seed_of(config.seed, "head"))
    # Plain features are one state, with nothing to mix.
    layers = "last" if upstream.states == 1 and isinstance(config.layers, str) else config.layers
    return DownstreamModel(
        upstream, labels.names, layers, config.head, frozen=config.mode == "frozen"
    )


def open_upstream(
    name: str,
    dataset: Dataset,
    rows: Rows,
    *,
    untrained: bool,
    seed: int,
    baseline: BaselineConfig | None = None,
) -> Upstream:
    """Return the upstream that `name` stands for.

    A feature kind (`logmel`) is the baseline without an encoder; anything else is the
    folder, or the URL, of a run or of a saved model. With `untrained` its weights are drawn anew:
    the control that shows what pretraining adds. `rows` are those to train on, the only
    ones that a normalisation may be taken from. Raises `ConfigError` when the dataset
    does not store the features that the upstream reads.
    """
    if name in SETTINGS_BY_KIND:
        if untrained:
            raise ConfigError(f"--untrained needs an encoder, and --upstream {name} has none")
        return feature_baseline(name, dataset, rows, baseline or BaselineConfig())
    upstream = PretrainedModel.from_pretrained(name).upstream
    check_feature_settings(name, upstream.config, dataset)
    return fresh_twin(upstream, seed) if untrained else upstream


def feature_baseline(
    feature: str, dataset: Dataset, rows: Rows, baseline: BaselineConfig
) -> Upstream:
    """Return an upstream whose only hidden state is the stored feature.

    A global normalisation is over the frames of `rows`. (Per utterance, the mean over time
    would be zero in every dimension, and nothing would be left to tell speakers by.)
    """
    dataset.require_feature(feature)
    settings = dataset.manifest.features[feature]
    statistics = dataset.statistics(rows, feature)
    front_end = FrontEndConfig(
        feature_dims=settings.dims,
        deltas=baseline.deltas,
        normalisation=baseline.normalisation,
    )
    config = UpstreamConfig(features=asdict(settings), front_end=front_end)
    return Upstream(
        config,
        FrontEnd(front_end, torch.tensor(statistics.mean), torch.tensor(statistics.std)),
    )


def fresh_twin(upstream: Upstream, seed: int) -> Upstream:
    """Return an upstream of the same make with random weights and the same front end."""
    torch.manual_seed(seed_of(seed, "untrained weights"))
    return Upstream(replace(upstream.config, training={}), upstream.front_end)


def check_feature_settings(name: str, config: UpstreamConfig, dataset: Dataset) -> None:
    """Raise `ConfigError` with the differences when dataset and model disagree on features."""
    expected = settings_from_dict(dict(config.features))
    dataset.require_feature(expected.kind)
    require_equal_settings(
        expected,
        dataset.manifest.features[expected.kind],
        who=name,
        where=dataset.place,
        way_out="prepare the data with the model's settings",
    )
