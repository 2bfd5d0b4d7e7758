"""`pretrain`: from shards to an encoder, in a folder from which the run continues if it stops."""

import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from aalbert.common.configuration import load_config, to_yaml
from aalbert.errors import ConfigError
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.loader import Stream
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.checkpoints import best_weights, latest_state, step_of
from aalbert.train.loop.loggers import Recorder, Recorders, open_loggers, require_installed
from aalbert.train.loop.meeting import Meeting
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks, find_ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.loop.steps import every
from aalbert.train.loop.stop_signals import SignalListener, StopOnSignal, raise_if_stopped
from aalbert.train.loop.throughput import Clock, ModelFlops
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.loop.validation import Validation
from aalbert.train.pretraining.build import (
    Parts,
    build_model,
    frame_shift_ms,
    make_loaders,
    select_parts,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining, held_out_loss
from aalbert.train.pretraining.pictures import Pictures
from aalbert.train.pretraining.report import write_pretraining_report
from aalbert.train.run_folder import MetricsWriter, RunFolder, lasting_place, open_datasets

TASK = "pretrain"
COLUMNS = (*STEP_COLUMNS, "validation_loss")


def start_pretraining(
    config: PretrainConfig, data: Sequence[Path | str], out: Path
) -> PretrainedModel:
    """Pretrain a new model on one or several datasets and export it to `out/export`.

    Raises `ConfigError` when datasets and settings do not fit, `OutputInUseError` when
    `out` holds something, and `InterruptedRunError` when a signal stopped the run.
    """
    ranks = find_ranks(config.timeout_s)
    ranks.share(config.batches_per_step)
    require_installed(config.loggers)
    datasets = [Dataset(place) for place in data]
    parts = select_parts(config, datasets)
    run = RunFolder(out)
    record = {
        "task": TASK,
        "data": [lasting_place(place) for place in data],
        "data_fingerprint": [dataset.manifest.fingerprint for dataset in datasets],
        "seed": config.seed,
    }
    if ranks.first:
        run.create(to_yaml(config), record)
    with holding(run, ranks):
        return run_pretraining(config, parts, run, ranks, state=None)


def resume_pretraining(out: Path, *, extend: int = 0) -> PretrainedModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings.

    With `extend` it goes on for so many steps more than it was to have, with the learning rates
    of a run that was planned so long from the beginning.
    """
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{TASK}'")
    config = load_config(PretrainConfig, file=run.config, environment={})
    ranks = find_ranks(config.timeout_s)
    ranks.share(config.batches_per_step)
    parts = select_parts(config, open_datasets(record))
    with holding(run, ranks):
        state = latest_state(run.checkpoints)
        if not extend:
            return run_pretraining(config, parts, run, ranks, state)
        longer = replace(config, steps=config.steps + extend)
        change = {"step": step_of(state) if state else 0}
        record_change = partial(run.change_config, to_yaml(longer), change)
        return run_pretraining(longer, parts, run, ranks, state, record_change)


def holding(run: RunFolder, ranks: Ranks) -> AbstractContextManager[None]:
    """Have the first rank keep other processes off a run."""
    return run.hold() if ranks.first else nullcontext()


def run_pretraining(
    config: PretrainConfig,
    parts: Parts,
    run: RunFolder,
    ranks: Ranks,
    state: Path | None,
    begun: Callable[[], None] = lambda: None,
) -> PretrainedModel:
    """Train to the last step, from `state` on if there is one, and export the model.

    The first rank calls `begun` once all ranks have met.
    """
    module = Pretraining(build_model(config, parts), config)
    training, held_out = make_loaders(config, parts, ranks)
    batches = ranks.share(config.batches_per_step)
    recorder = open_recorder(config, run, ranks, first_step=step_of(state) if state else 0)
    clock, request = Clock(), SignalListener()
    due = every(config.validate_every_steps, last=config.steps)
    checked = every(
        math.gcd(config.log_every_steps, config.validate_every_steps), last=config.steps
    )
    log = LogSettings(
        description=TASK,
        steps=config.steps,
        every_steps=config.log_every_steps,
        frame_shift_ms=frame_shift_ms(config, parts),
        flops=ModelFlops.of(module.model),
        precision=config.precision,
    )
    measure = partial(held_out_loss, module, held_out, ranks, request)
    guard = NonFiniteGuard(run.path, config.on_nan, parts.keys, checked, ranks)
    validation = Validation(recorder, measure, due, clock=clock, best_by="validation_loss")
    saver = SaveStates(
        run.checkpoints,
        due,
        config.keep_checkpoints,
        guard=guard,
        validation=validation,
        ranks=ranks,
        clock=clock,
    )
    # After a step they are called in this order: the state is saved before signals are looked at.
    callbacks = [
        Meeting(ranks, facts(config, parts, state), begun),
        guard,
        StepLog(log, recorder, training, clock, ranks),
        validation,
        Pictures(run.pictures, parts, config, clock, ranks),
        saver,
        StopOnSignal(request, saver, ranks),
    ]
    trainer = make_trainer(
        run.path,
        callbacks,
        ranks,
        max_steps=config.steps,
        accumulate_grad_batches=batches,
        precision=config.precision,
    )
    with ranks.together():
        fit(trainer, module, Stream(training, config.steps * batches), state)
    command = f"aalbert pretrain --resume --out {shlex.quote(str(run.path))}"
    raise_if_stopped(trainer, request, command)
    if ranks.first:
        export(config, module.model, run, validation)
        write_pretraining_report(run, parts.datasets)
    ranks.leave()
    return module.model


def open_recorder(
    config: PretrainConfig, run: RunFolder, ranks: Ranks, first_step: int
) -> Recorder:
    """Return what takes the measurements: files and loggers on the first rank, nothing elsewhere.

    What a continued run measured after its state's step is dropped, since it comes again.
    """
    if not ranks.first:
        return Recorders()
    run.require_writable()
    writer = MetricsWriter(run.metrics, COLUMNS, first_step=first_step)
    return Recorders(writer, *open_loggers(config.loggers, run.path, first_step=first_step))


def facts(config: PretrainConfig, parts: Parts, state: Path | None) -> dict[str, Any]:
    """Return what must be the same on all ranks, under the names an error gives them."""
    return {
        "aalbert": version("aalbert"),
        "torch": version("torch"),
        "data fingerprint": [data.manifest.fingerprint for data in parts.datasets],
        "settings": xxhash.xxh3_64_hexdigest(to_yaml(config).encode()),
        "checkpoint": state.name if state else "none",
    }


def export(
    config: PretrainConfig, model: PretrainedModel, run: RunFolder, validation: Validation
) -> None:
    """Write the model of the last step, or of the best, and say in `run.json` which it is."""
    step = config.steps
    if config.export == "best" and validation.best_step not in (None, step):
        step = validation.best_step or step
        model.load_state_dict(best_weights(run.checkpoints, step))
    upstream = model.upstream
    exported = {"exported": config.export, "exported_step": step}
    upstream.config = replace(upstream.config, training={**upstream.config.training, **exported})
    model.eval().save_pretrained(run.export)
    run.add_to_record(exported)
