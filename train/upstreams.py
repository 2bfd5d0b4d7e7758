"""Opening an upstream by name: a pretrained model, its untrained twin, or plain features."""

from dataclasses import asdict, replace

import torch

from aalbert.errors import ConfigError
from aalbert.models.front_end import FrontEnd, FrontEndConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND, settings_from_dict
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import BaselineConfig
from aalbert.train.seeds import seed_of


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
