"""`pretrain`: from shards to an encoder, in a folder from which the run continues if it stops."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aalbert.configuration import load_config, to_yaml
from aalbert.errors import ConfigError
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.dataset import Dataset
from aalbert.shards.loader import Loader
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
from aalbert.train.pretrain_parts import (
    Parts,
    build_model,
    frame_shift_ms,
    make_loaders,
    select_parts,
)
from aalbert.train.reconstruction import Pretraining, validation_loss
from aalbert.train.run_folder import RunFolder, lasting_place, open_datasets
from aalbert.train.trainer import fit, make_trainer

TASK = "pretrain"
COLUMNS = ("train_loss", "validation_loss", "learning_rate", "x_real_time", "data_wait")


def start_pretraining(
    config: PretrainConfig, data: Sequence[Path | str], out: Path
) -> PretrainedModel:
    """Pretrain a new model on one or several datasets and export it to `out/export`.

    Raises `ConfigError` when datasets and settings do not fit, `OutputInUseError` when
    `out` holds something, and `InterruptedRunError` when a signal stopped the run.
    """
    datasets = [Dataset(place) for place in data]
    parts = select_parts(config, datasets)
    run = RunFolder(out)
    record = {
        "task": TASK,
        "data": [lasting_place(place) for place in data],
        "data_fingerprint": [dataset.manifest.fingerprint for dataset in datasets],
        "seed": config.seed,
    }
    run.create(to_yaml(config), record)
    return run_pretraining(config, parts, run, state=None)


def resume_pretraining(out: Path) -> PretrainedModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings."""
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{TASK}'")
    config = load_config(PretrainConfig, file=run.config, environment={})
    parts = select_parts(config, open_datasets(record))
    return run_pretraining(config, parts, run, state=latest_state(run.checkpoints))


def run_pretraining(
    config: PretrainConfig, parts: Parts, run: RunFolder, state: Path | None
) -> PretrainedModel:
    """Train to the last step, from `state` on if there is one, and export the model."""
    module = Pretraining(build_model(config, parts), config)
    training, validation = make_loaders(config, parts)
    metrics = MetricsWriter(run.metrics, COLUMNS, first_step=step_of(state) if state else 0)
    due, keep = every(config.validate_every_steps, last=config.steps), config.keep_checkpoints
    stop = StopOnSignal(run.checkpoints, keep)
    callbacks = [
        Progress(
            metrics,
            TASK,
            config.steps,
            config.log_every_steps,
            frame_shift_ms(config, parts),
            training,
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
