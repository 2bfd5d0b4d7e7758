"""The upstream of a downstream run: plain features, a pretrained model, one of another library."""

from dataclasses import asdict, replace

import torch

from aalbert.common.redaction import redact_url
from aalbert.conversion.saved_model import as_saved
from aalbert.errors import ConfigError, InputError, require
from aalbert.models.encoder_names import is_wave_encoder
from aalbert.models.front_end import FrontEnd
from aalbert.models.head_config import HeadConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.models.wave_encoders.open import open_wave_encoder
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import BaselineConfig, DownstreamConfig
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.randomness import seed_of
from aalbert.train.upstreams import check_feature_settings


def check_baseline(config: DownstreamConfig, upstream: str) -> None:
    """Raise `ConfigError` where plain features cannot be used, or cannot exceed chance."""
    if upstream not in SETTINGS_BY_KIND:
        return
    if config.mode != "frozen":
        raise ConfigError(
            f"--mode {config.mode} needs an encoder, and --upstream {upstream} has none"
        )
    if chance_only(config.head, config.baseline):
        raise ConfigError(
            f"{upstream} normalised per utterance has the same mean (0) and deviation (1) in every "
            f"utterance, so that {config.head.pooling} pooling gives all of them the same vector, "
            "and chance is all it can give: use --set baseline.normalisation=global"
        )


def check_wave_encoder(config: DownstreamConfig, upstream: str, corpus: WaveCorpus | None) -> None:
    """Raise `ConfigError` for a mode that an encoder of another library does not have, and for a
    corpus that nothing would read.
    """
    if not is_wave_encoder(upstream):
        require(
            corpus is None or corpus.place is None,
            f"--corpus is for encoders that read waves, and --upstream {redact_url(upstream)} "
            "reads stored features: leave it out",
        )
        return
    require(
        config.mode == "frozen",
        f"--mode {config.mode} trains an encoder, and --upstream {upstream} is used frozen: its "
        "weights are not copied into the run",
    )


def open_upstream(
    name: str,
    dataset: Dataset,
    rows: Rows,
    *,
    untrained: bool,
    seed: int,
    baseline: BaselineConfig | None = None,
) -> Upstream | WaveUpstream:
    """Return the upstream that `name` stands for.

    A feature kind (`logmel`) is the baseline without an encoder, `hf:` and `s3prl:` begin the names
    of encoders of other libraries, anything else is the folder, or the URL, of a run or of a saved
    model. With `untrained` it has fresh random weights
    and the same front end: the control that shows the effect of pretraining. `rows` are those to
    train on, the only ones that a normalisation may be computed from. Raises `ConfigError` when
    the dataset does not store the features that the upstream reads.
    """
    if name in SETTINGS_BY_KIND:
        if untrained:
            raise ConfigError(f"--untrained needs an encoder, and --upstream {name} has none")
        return feature_baseline(name, dataset, rows, baseline or BaselineConfig())
    weights_seed = seed_of(seed, "untrained weights")
    if is_wave_encoder(name):
        return open_wave_encoder(name, weights_seed if untrained else None)
    upstream = PretrainedModel.from_pretrained(as_saved(name)).upstream
    check_feature_settings(name, upstream.config, dataset)
    if not untrained:
        return upstream
    torch.manual_seed(weights_seed)
    return Upstream(replace(upstream.config, training={}), upstream.front_end)


def feature_baseline(
    feature: str, dataset: Dataset, rows: Rows, baseline: BaselineConfig
) -> Upstream:
    """Return an upstream whose only hidden state is the stored feature.

    A global normalisation is over the frames of `rows`. (Per utterance, the mean over time
    would be zero in every dimension and hold nothing of the speaker.)
    """
    dataset.require_feature(feature)
    settings = dataset.manifest.features[feature]
    front_end = baseline.front_end(settings.dims)
    config = UpstreamConfig(features=asdict(settings), front_end=front_end)
    if baseline.normalisation != "global":
        return Upstream(config)
    if len(rows) == 0:
        raise InputError(
            f"{dataset.place}: {feature} is normalised by the training part, which is empty: use "
            "--set baseline.normalisation=none"
        )
    statistics = dataset.statistics(rows, feature)
    return Upstream(
        config,
        FrontEnd(front_end, torch.tensor(statistics.mean), torch.tensor(statistics.std)),
    )


def chance_only(head: HeadConfig, baseline: BaselineConfig) -> bool:
    """Return whether plain features with this head can reach no more than chance.

    Normalised per utterance, every dimension has mean 0 and deviation 1 over time, and so do
    its deltas: the pooled vector is the same for every utterance. A projection keeps the means,
    not the deviations.
    """
    constant = head.pooling == "mean" or (head.pooling == "statistics" and not head.projection)
    return baseline.normalisation == "utterance" and head.trunk == "none" and constant
