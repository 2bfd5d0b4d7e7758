"""What a pretraining run is made of: utterances to train on, their loaders, and a fresh model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from aalbert.errors import ConfigError
from aalbert.models.front_end import FrontEnd
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import UpstreamConfig
from aalbert.shards.assembly import LoaderConfig
from aalbert.shards.dataset import Dataset, Selection
from aalbert.shards.loader import Loader
from aalbert.shards.order import OrderConfig, Rows, held_out
from aalbert.shards.statistics import combine_statistics
from aalbert.train.configs import PretrainConfig
from aalbert.train.ranks import Ranks
from aalbert.train.reconstruction import VALIDATION_SEED
from aalbert.train.seeds import seed_of


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
    rows = dataset.rows(config.data.splits)
    if len(rows) < 2:
        raise ConfigError(
            f"{dataset.place} has {len(rows)} utterances in splits "
            f"{', '.join(config.data.splits)}: at least 2 are needed, one to hold out"
        )
    keys = dataset.table.column("key").take(rows).to_pylist()
    # One seed for all runs: losses on the held-out part are there to be compared.
    chosen = held_out(keys, config.data.validation_proportion, seed=VALIDATION_SEED)
    if chosen.all():
        raise ConfigError(
            f"data.validation_proportion {config.data.validation_proportion} holds out all "
            f"{len(rows)} utterances: lower it"
        )
    return rows[~chosen], rows[chosen]


def check_features(config: PretrainConfig, dataset: Dataset) -> None:
    """Raise `ConfigError` when the dataset's features are not what the settings expect."""
    feature = config.data.feature
    dataset.require_feature(feature)
    dims = dataset.manifest.features[feature].dims
    if dims != config.front_end.feature_dims:
        raise ConfigError(
            f"front_end.feature_dims is {config.front_end.feature_dims}, the {feature} of "
            f"{dataset.place} has {dims} dims: use --set front_end.feature_dims={dims}"
        )


def make_loaders(
    config: PretrainConfig, parts: Parts, ranks: Ranks | None = None
) -> tuple[Loader, Loader]:
    """Return the loaders of the training part and of the held-out part, for this rank.

    Training batches are dealt to the ranks; of the held-out utterances each rank takes its own, so
    that every one counts once.
    """
    ranks = ranks or Ranks()
    shift_ms = frame_shift_ms(config, parts)
    training = LoaderConfig(
        order=OrderConfig(frames_per_batch=round(config.data.batch_seconds * 1000 / shift_ms)),
        feature=config.data.feature,
        crop_frames=round(config.data.crop_seconds * 1000 / shift_ms),
        seed=config.seed,
        prefetch=config.data.prefetch,
        verify=config.data.verify,
    )
    held_out = replace(training, shuffle=False, seed=VALIDATION_SEED)
    mine = [
        replace(some, rows=some.rows[ranks.rank :: ranks.size])
        for some in parts.validation
        if len(some.rows) > ranks.rank
    ]
    if not mine:
        raise ConfigError(
            f"{ranks.size} ranks need {ranks.size} held-out utterances: "
            "raise data.validation_proportion"
        )
    loader = Loader(parts.training, training, rank=ranks.rank, world_size=ranks.size)
    return loader, Loader(mine, held_out)


def frame_shift_ms(config: PretrainConfig, parts: Parts) -> float:
    """Return the time from one stored frame to the next."""
    return parts.datasets[0].manifest.features[config.data.feature].frame_shift_ms


def build_model(config: PretrainConfig, parts: Parts) -> PretrainedModel:
    """Return a model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed_of(config.seed, "weights"))
    feature = config.data.feature
    manifests = [dataset.manifest for dataset in parts.datasets]
    statistics = combine_statistics(
        [some.dataset.statistics(some.rows, feature) for some in parts.training]
    )
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
    front_end = FrontEnd(
        config.front_end, torch.tensor(statistics.mean), torch.tensor(statistics.std)
    )
    return PretrainedModel(description, front_end=front_end)
