"""What a pretraining run is made of: utterances to train on, their loaders, and a fresh model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from aalbert.common.configuration import merge
from aalbert.errors import ConfigError
from aalbert.models.front_end import FrontEnd
from aalbert.models.pretrained import PretrainedModel, TargetConfig
from aalbert.models.upstream import UpstreamConfig
from aalbert.shards.format.feature_settings import FeatureSettings, settings_from_dict
from aalbert.shards.format.statistics import combine_statistics
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows, held_out
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.loop.ranks import Ranks
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED
from aalbert.train.randomness import seed_of


@dataclass(frozen=True)
class Parts:
    """What is trained on, and what is held out, of every dataset."""

    training: list[Selection]
    validation: list[Selection]

    @property
    def datasets(self) -> list[Dataset]:
        """The datasets, in the order they were given."""
        return [some.dataset for some in self.training]

    def keys(self, rows: Sequence[int]) -> list[str]:
        """Return the keys of rows that are counted through the datasets one after another."""
        keys = []
        for row in rows:
            for dataset in self.datasets:
                if row < len(dataset):
                    keys.append(dataset.key(row))
                    break
                row -= len(dataset)
        return keys


def select_parts(config: PretrainConfig, datasets: Sequence[Dataset]) -> Parts:
    """Return the utterances to train on and those held out.

    Raises `ConfigError` when the settings do not fit the datasets.
    """
    weights = config.data.weights or (1.0,) * len(datasets)
    if len(weights) != len(datasets):
        raise ConfigError(
            f"data.weights has {len(weights)} numbers for {len(datasets)} datasets: give one each"
        )
    training, validation = [], []
    for dataset, weight in zip(datasets, weights, strict=True):
        check_features(config, dataset)
        kept, taken = split_rows(config, dataset)
        training.append(Selection(dataset, kept, weight))
        validation.append(Selection(dataset, taken))
    return Parts(training, validation)


def split_rows(config: PretrainConfig, dataset: Dataset) -> tuple[Rows, Rows]:
    """Return the rows to train on and those held out, at least one of each."""
    settings = config.data
    rows = dataset.rows(settings.splits)
    shift_ms = dataset.manifest.features[settings.feature].frame_shift_ms
    long_enough = (
        dataset.frames(settings.feature)[rows] * shift_ms >= settings.shortest_seconds * 1000
    )
    rows = rows[long_enough]
    if len(rows) < 2:
        raise ConfigError(
            f"{dataset.place} has {len(rows)} utterances of at least {settings.shortest_seconds} s "
            f"in splits {', '.join(settings.splits)}: at least 2 are needed, one to hold out"
        )
    keys = dataset.table.column("key").take(rows).to_pylist()
    # One seed for all runs: losses on the held-out part are there to be compared.
    chosen = held_out(keys, settings.validation_proportion, seed=VALIDATION_SEED)
    if chosen.all():
        raise ConfigError(
            f"data.validation_proportion {settings.validation_proportion} holds out all "
            f"{len(rows)} utterances: lower it"
        )
    return rows[~chosen], rows[chosen]


def check_features(config: PretrainConfig, dataset: Dataset) -> None:
    """Raise `ConfigError` when the dataset's features are not what the settings expect."""
    feature = config.data.feature
    for stored in (feature, *config.objective.targets):
        dataset.require_feature(stored)
    for kind, required in (config.data.features or {}).items():
        dataset.require_feature(kind)
        found = dataset.manifest.features[kind]
        require_equal_settings(
            changed_settings(found, required),
            found,
            who="the configuration",
            where=dataset.place,
            way_out="prepare data as 'aalbert config presets' shows, or take these with "
            "--set data.features=null",
        )
    dims = dataset.manifest.features[feature].dims
    if dims != config.front_end.feature_dims:
        raise ConfigError(
            f"front_end.feature_dims is {config.front_end.feature_dims}, the {feature} of "
            f"{dataset.place} has {dims} dims: use --set front_end.feature_dims={dims}"
        )


def changed_settings(settings: FeatureSettings, changes: Mapping[str, Any]) -> FeatureSettings:
    """Return the settings of a feature with others in their place, the rest as it was."""
    document = asdict(settings)
    merge(document, changes)
    return settings_from_dict(document)


def make_loaders(
    config: PretrainConfig, parts: Parts, ranks: Ranks | None = None
) -> tuple[Loader, Loader]:
    """Return the loaders of the training part and of the held-out part, for this rank.

    Training batches are dealt to the ranks; of the held-out utterances each rank takes its own, so
    that every one counts once.
    """
    ranks = ranks or Ranks()
    data, shift_ms = config.data, frame_shift_ms(config, parts)

    def frames(seconds: float) -> int:
        return round(seconds * 1000 / shift_ms)

    static = data.static_seconds or (data.crop_seconds,)
    training = LoaderConfig(
        order=OrderConfig(
            frames_per_batch=frames(data.batch_seconds),
            packed=data.batching == "packed",
            static_lengths=tuple(map(frames, static)) if data.batching == "static" else (),
        ),
        feature=data.feature,
        targets=other_targets(config),
        crop_frames=frames(data.crop_seconds),
        seed=config.seed,
        prefetch=data.prefetch,
        verify=data.verify,
    )
    held_out = replace(training, shuffle=False, seed=VALIDATION_SEED)
    if max(len(some.rows) for some in parts.validation) < ranks.size:
        raise ConfigError(
            f"{ranks.size} ranks need {ranks.size} held-out utterances: "
            "raise data.validation_proportion"
        )
    # Datasets of which a rank gets nothing stay, since they count in the numbers of the rows.
    mine = [replace(some, rows=some.rows[ranks.rank :: ranks.size]) for some in parts.validation]
    loader = Loader(parts.training, training, rank=ranks.rank, world_size=ranks.size)
    return loader, Loader(mine, held_out)


def other_targets(config: PretrainConfig) -> tuple[str, ...]:
    """Return the targets that are not the feature which the encoder reads."""
    return tuple(name for name in config.objective.targets if name != config.data.feature)


def frame_shift_ms(config: PretrainConfig, parts: Parts) -> float:
    """Return the time from one stored frame to the next."""
    return parts.datasets[0].manifest.features[config.data.feature].frame_shift_ms


def build_model(config: PretrainConfig, parts: Parts) -> PretrainedModel:
    """Return a model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed_of(config.seed, "weights"))
    feature = config.data.feature
    manifests = [dataset.manifest for dataset in parts.datasets]
    description = UpstreamConfig(
        features=asdict(manifests[0].features[feature]),
        front_end=config.front_end,
        encoder=config.encoder,
        training={
            "corpus": " + ".join(manifest.corpus for manifest in manifests),
            "data_fingerprint": " + ".join(manifest.fingerprint for manifest in manifests),
            "steps": config.steps,
            "seed": config.seed,
        },
    )
    targets = [
        TargetConfig(
            feature=name,
            dims=manifests[0].features[name].dims,
            normalisation=config.front_end.normalisation,
        )
        for name in config.objective.targets or (feature,)
    ]
    return PretrainedModel(
        description,
        tuple(targets),
        mask_token=config.masking.learned_token,
        front_end=FrontEnd(config.front_end, *corpus_statistics(parts, feature)),
        target_front_ends={
            target.feature: FrontEnd(
                target.front_end(config.front_end.frames_stacked),
                *corpus_statistics(parts, target.feature),
            )
            for target in targets
        },
    )


def corpus_statistics(parts: Parts, feature: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation `(dims,)` of a feature over what is trained on."""
    found = combine_statistics(
        [some.dataset.statistics(some.rows, feature) for some in parts.training]
    )
    return torch.tensor(found.mean), torch.tensor(found.std)
