"""`pretrain`: from shards to an encoder, in a folder from which the run continues if it stops."""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from aalbert.configuration import load_config, to_yaml
from aalbert.errors import ConfigError
from aalbert.models.front_end import FrontEnd
from aalbert.models.upstream import PretrainedModel, UpstreamConfig
from aalbert.shards.assembly import LoaderConfig
from aalbert.shards.dataset import Dataset, Selection
from aalbert.shards.loader import Loader
from aalbert.shards.order import OrderConfig, Rows, held_out
from aalbert.shards.stream import Stream
from aalbert.train.callbacks import (
    Measurement,
    Progress,
    SaveStates,
    StopOnSignal,
    Validation,
    every,
)
from aalbert.train.checkpoints import latest_state, step_of
from aalbert.train.configs import PretrainConfig
from aalbert.train.metrics import MetricsWriter
from aalbert.train.reconstruction import VALIDATION_SEED, Pretraining, validation_loss
from aalbert.train.run_folder import RunFolder, open_data
from aalbert.train.seeds import seed_of
from aalbert.train.trainer import fit, make_trainer

TASK = "pretrain"
COLUMNS = ("train_loss", "validation_loss", "learning_rate", "x_real_time")


def start_pretraining(config: PretrainConfig, data: Path, out: Path) -> PretrainedModel:
    """Pretrain a new model on a dataset and export it to `out/export`.

    Raises `ConfigError` when dataset and settings do not fit, `OutputInUseError` when
    `out` holds something, and `InterruptedRunError` when a signal stopped the run.
    """
    dataset = Dataset(data)
    check_features(config, dataset)
    run = RunFolder(out)
    record = {"task": TASK, "data": str(data.resolve()), "seed": config.seed}
    run.create(to_yaml(config), {**record, "data_fingerprint": dataset.manifest.fingerprint})
    return run_pretraining(config, dataset, run, state=None)


def resume_pretraining(out: Path) -> PretrainedModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings."""
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{TASK}'")
    dataset = open_data(record)
    config = load_config(PretrainConfig, file=run.config, environment={})
    return run_pretraining(config, dataset, run, state=latest_state(run.checkpoints))


def run_pretraining(
    config: PretrainConfig, dataset: Dataset, run: RunFolder, state: Path | None
) -> PretrainedModel:
    """Train to the last step, from `state` on if there is one, and export the model."""
    module = Pretraining(build_model(config, dataset), config)
    training, validation = make_loaders(config, dataset)
    metrics = MetricsWriter(run.metrics, COLUMNS, first_step=step_of(state) if state else 0)
    due, keep = every(config.validate_every_steps, last=config.steps), config.keep_checkpoints
    stop = StopOnSignal(run.checkpoints, keep)
    callbacks = [
        Progress(
            metrics, TASK, config.steps, config.log_every_steps, frame_shift_ms(config, dataset)
        ),
        Validation(metrics, partial(measure, module, validation), due),
        SaveStates(run.checkpoints, due, keep),
        stop,
    ]
    trainer = make_trainer(
        run.path,
        callbacks,
        max_steps=config.steps,
        precision=config.precision,
        gradient_clip_val=config.optimiser.gradient_clip,
    )
    fit(trainer, module, Stream(training, config.steps), state)
    stop.raise_if_stopped(trainer, f"aalbert pretrain --resume --out {shlex.quote(str(run.path))}")
    module.model.eval().save_pretrained(run.export)
    return module.model


def measure(module: Pretraining, validation: Loader) -> Measurement:
    """Return what validation measures."""
    loss = validation_loss(module.model, validation, module.config, module.device)
    return {"validation_loss": loss}


def frame_shift_ms(config: PretrainConfig, dataset: Dataset) -> float:
    """Return the time from one stored frame to the next."""
    return dataset.manifest.features[config.data.feature].frame_shift_ms


def check_features(config: PretrainConfig, dataset: Dataset) -> None:
    """Raise `ConfigError` when the dataset's features are not what the settings expect."""
    feature = config.data.feature
    dataset.require_feature(feature)
    dims = dataset.manifest.features[feature].dims
    if dims != config.front_end.feature_dims:
        raise ConfigError(
            f"front_end.feature_dims is {config.front_end.feature_dims}, the {feature} of "
            f"{dataset.folder} has {dims} dims: use --set front_end.feature_dims={dims}"
        )


def build_model(config: PretrainConfig, dataset: Dataset) -> PretrainedModel:
    """Return a model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed_of(config.seed, "weights"))
    settings = dataset.manifest.features[config.data.feature]
    training, _ = split_rows(config, dataset)
    statistics = dataset.statistics(training, config.data.feature)
    description = UpstreamConfig(
        features=asdict(settings),
        front_end=config.front_end,
        encoder=config.encoder,
        training={
            "corpus": dataset.manifest.corpus,
            "data_fingerprint": dataset.manifest.fingerprint,
            "steps": config.steps,
            "seed": config.seed,
        },
    )
    front_end = FrontEnd(
        config.front_end, torch.tensor(statistics.mean), torch.tensor(statistics.std)
    )
    return PretrainedModel(description, front_end)


def make_loaders(config: PretrainConfig, dataset: Dataset) -> tuple[Loader, Loader]:
    """Return the loaders of the training part and of the held-out part."""
    training, validation = split_rows(config, dataset)
    shift_ms = frame_shift_ms(config, dataset)
    order = OrderConfig(frames_per_batch=round(config.data.batch_seconds * 1000 / shift_ms))
    crop_frames = round(config.data.crop_seconds * 1000 / shift_ms)

    def loader(rows: Rows, shuffle: bool) -> Loader:
        settings = LoaderConfig(
            order=order,
            feature=config.data.feature,
            crop_frames=crop_frames,
            shuffle=shuffle,
            seed=config.seed if shuffle else VALIDATION_SEED,
        )
        return Loader(Selection(dataset, rows), settings)

    return loader(training, shuffle=True), loader(validation, shuffle=False)


def split_rows(config: PretrainConfig, dataset: Dataset) -> tuple[Rows, Rows]:
    """Return the rows to train on and those held out, at least one of each."""
    rows = dataset.rows(config.data.splits)
    if len(rows) < 2:
        raise ConfigError(
            f"{dataset.folder} has {len(rows)} utterances in splits "
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
