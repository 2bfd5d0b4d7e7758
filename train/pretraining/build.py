"""The parts of a pretraining run: selected utterances, their loaders, and the model to train."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from aalbert.common.settings_text import merge
from aalbert.common.text_files import read_text
from aalbert.errors import ConfigError, InputError, require
from aalbert.models.front_end import FrontEnd
from aalbert.models.pretrained import PretrainedModel, TargetConfig
from aalbert.models.upstream import UpstreamConfig
from aalbert.shards.format.feature_settings import settings_from_dict
from aalbert.shards.format.statistics import combine_statistics
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows, held_out
from aalbert.shards.reading.compatibility import require_equal_settings
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.hub_datasets import hub_dataset
from aalbert.train.loop.ranks import Ranks
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED
from aalbert.train.pretraining.speech import speech_hours
from aalbert.train.pretraining.start import Start
from aalbert.train.randomness import seed_of
from aalbert.train.run_record import CONTINUED_FROM
from aalbert.train.upstreams import check_feature_settings


@dataclass(frozen=True)
class PretrainSelections:
    """The utterances of every dataset: those to train on, and those held out for validation."""

    training: list[Selection]
    validation: list[Selection]

    @property
    def datasets(self) -> list[Dataset]:
        """The datasets, in the order they were given."""
        return [selection.dataset for selection in self.training]

    def keys(self, rows: Sequence[int]) -> list[str]:
        """Return the keys of rows that are numbered through the datasets one after another."""
        keys = []
        for row in rows:
            for dataset in self.datasets:
                if row < len(dataset):
                    keys.append(dataset.key(row))
                    break
                row -= len(dataset)
        return keys


def select_utterances(
    config: PretrainConfig, datasets: Sequence[Dataset], start: Start | None = None
) -> PretrainSelections:
    """Return the utterances to train on and those held out.

    Raises `ConfigError` when the settings do not fit the datasets, or the model to continue from.
    """
    if start is not None:
        start.require_settings(config)
    weights = config.data.weights or (1.0,) * len(datasets)
    if len(weights) != len(datasets):
        raise ConfigError(
            f"data.weights has {len(weights)} numbers for {len(datasets)} datasets: give one each"
        )
    excluded = read_excluded(config.data.exclude, datasets)
    training, validation = [], []
    for dataset, weight in zip(datasets, weights, strict=True):
        check_features(config, dataset, start)
        rows, held_out_rows = hold_out(config, dataset, excluded)
        training.append(Selection(dataset, rows, weight))
        validation.append(Selection(dataset, held_out_rows))
    return PretrainSelections(training, validation)


def read_excluded(place: str, datasets: Sequence[Dataset]) -> frozenset[str]:
    """Return the keys that a file lists; `InputError` when there is one that no dataset has."""
    if not place:
        return frozenset()
    path = Path(place)
    if not path.is_file():
        raise InputError(f"there is no file {path} (data.exclude): expected one key a line")
    keys = read_text(path).split()
    known = {key for dataset in datasets for key in dataset.table.column("key").to_pylist()}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise InputError(
            f"{path} (data.exclude) names {len(unknown)} utterances of {len(keys)} that the data "
            f"does not have, for example '{unknown[0]}'"
        )
    return frozenset(keys)


def hold_out(
    config: PretrainConfig, dataset: Dataset, excluded: frozenset[str]
) -> tuple[Rows, Rows]:
    """Return the rows to train on and those held out, at least one of each."""
    settings = config.data
    rows = dataset.rows(settings.splits)
    if excluded:
        keys = dataset.table.column("key").take(rows).to_pylist()
        rows = rows[[key not in excluded for key in keys]]
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
    # One seed for all runs, so that their held-out losses can be compared.
    chosen = held_out(keys, settings.validation_proportion, seed=VALIDATION_SEED)
    if chosen.all():
        raise ConfigError(
            f"data.validation_proportion {settings.validation_proportion} holds out all "
            f"{len(rows)} utterances: lower it"
        )
    return rows[~chosen], rows[chosen]


def check_features(config: PretrainConfig, dataset: Dataset, start: Start | None) -> None:
    """Raise `ConfigError` unless the dataset has the features that settings and model expect."""
    if start is not None:
        check_feature_settings(start.origin.model, start.model.config, dataset)
    feature = config.data.feature
    for stored in (feature, *config.objective.targets):
        dataset.require_feature(stored)
    for kind, required in (config.data.features or {}).items():
        dataset.require_feature(kind)
        found = dataset.manifest.features[kind]
        expected = asdict(found)
        merge(expected, required)
        require_equal_settings(
            settings_from_dict(expected),
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


def make_loaders(
    config: PretrainConfig, selections: PretrainSelections, ranks: Ranks | None = None
) -> tuple[Loader, Loader]:
    """Return the loader of training batches and that of held-out ones, for this rank.

    Training batches are dealt to the ranks. Each rank takes its own held-out utterances, so that
    every one of them is measured once.
    """
    ranks = ranks or Ranks()
    data, shift_ms = config.data, frame_shift_ms(config, selections)
    validation = selections.validation
    if max(len(selection.rows) for selection in validation) < ranks.size:
        raise ConfigError(
            f"{ranks.size} ranks need {ranks.size} held-out utterances: "
            "raise data.validation_proportion"
        )
    # Selections of which this rank gets no rows stay: rows are numbered through all datasets.
    own = [replace(part, rows=part.rows[ranks.rank :: ranks.size]) for part in validation]
    targets = tuple(name for name in config.objective.targets if name != data.feature)

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
        targets=targets,
        crop_frames=frames(data.crop_seconds),
        seed=config.seed,
        prefetch=data.prefetch,
        verify=data.verify,
    )
    held_out = replace(training, shuffle=False, seed=VALIDATION_SEED)
    loader = Loader(
        selections.training,
        training,
        rank=ranks.rank,
        world_size=ranks.size,
        batches_per_step=config.batches_per_step,
    )
    return loader, Loader(own, held_out)


def frame_shift_ms(config: PretrainConfig, selections: PretrainSelections) -> float:
    """Return the time from one stored frame to the next."""
    return selections.datasets[0].manifest.features[config.data.feature].frame_shift_ms


def build_model(
    config: PretrainConfig, selections: PretrainSelections, start: Start | None = None
) -> PretrainedModel:
    """Return a model with fresh weights, the same for the same seed, or with those of `start`."""
    feature = config.data.feature
    manifests = [dataset.manifest for dataset in selections.datasets]
    positions = count_positions(config, selections, start)
    description = UpstreamConfig(
        features=asdict(manifests[0].features[feature]),
        front_end=config.front_end,
        encoder=replace(config.encoder, position_frames=positions),
        training={
            "corpus": " + ".join(manifest.corpus for manifest in manifests),
            "hub_datasets": [hub_dataset(manifest) for manifest in manifests],
            "data_fingerprint": " + ".join(manifest.fingerprint for manifest in manifests),
            "speech_hours": speech_hours(selections.training, feature, start),
            "steps": config.steps,
            "seed": config.seed,
            **({} if start is None else {CONTINUED_FROM: asdict(start.origin)}),
        },
    )
    targets, target_front_ends = [], {}
    for name in config.objective.targets or (feature,):
        target = TargetConfig(
            feature=name,
            dims=manifests[0].features[name].dims,
            normalisation=config.front_end.normalisation,
        )
        targets.append(target)
        target_front_ends[name] = FrontEnd(
            target.front_end(config.front_end.frames_stacked),
            *training_statistics(selections, name),
        )
    front_end = FrontEnd(config.front_end, *training_statistics(selections, feature))
    torch.manual_seed(seed_of(config.seed, "weights"))
    model = PretrainedModel(
        description,
        tuple(targets),
        mask_token=config.masking.learned_token,
        front_end=front_end,
        target_front_ends=target_front_ends,
    )
    if start is not None:
        start.hand_over(model)
    return model


def count_positions(
    config: PretrainConfig, selections: PretrainSelections, start: Start | None = None
) -> int:
    """Return the number of positions of the encoder: by default those that training reaches.

    Those that the model of a `start` knows stay known. Raises `ConfigError` for positions that
    would never be trained, or that a crop goes beyond.
    """
    encoder, data = config.encoder, config.data
    longest = max(
        int(part.dataset.frames(data.feature)[part.rows].max()) for part in selections.training
    )
    crop = min(longest, round(data.crop_seconds * 1000 / frame_shift_ms(config, selections)))
    stacked = config.front_end.frames_stacked
    in_crop, in_utterance = max(1, crop // stacked), max(1, longest // stacked)
    known = 0 if start is None else start.position_frames
    if start is not None and encoder.positions == "learned":
        start.require_table_for(config, in_crop)
        return known
    if data.positions_start == "random":
        positions = encoder.position_frames or max(in_utterance, known)
        require(
            positions >= in_crop,
            f"encoder.position_frames {positions} must be at least the {in_crop} encoder frames of "
            "a crop, whose positions begin at a random one",
        )
        return positions
    trained = max(in_crop, known)
    positions = encoder.position_frames or trained
    require(
        positions <= trained or encoder.positions == "rotary",
        f"encoder.position_frames {positions}: training reaches {in_crop} encoder frames (crops of "
        f"at most {data.crop_seconds:g} s), so that the positions beyond would stay untrained: "
        "leave it out, or train all of them with --set data.positions_start=random",
    )
    return positions


def training_statistics(
    selections: PretrainSelections, feature: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation `(dims,)` of a feature over the training utterances."""
    found = combine_statistics(
        [selection.dataset.statistics(selection.rows, feature) for selection in selections.training]
    )
    return torch.tensor(found.mean), torch.tensor(found.std)
