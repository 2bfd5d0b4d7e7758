"""`pretrain`: train an encoder on shards, in a folder from which a stopped run is resumed."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aalbert.common.json_files import as_record
from aalbert.common.notes import note, warn
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models.checkpoint import read_config
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_facts import Origin
from aalbert.models.training_states import step_of
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.checkpoints import best_weights, latest_state
from aalbert.train.loop.loggers import require_installed
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import JoinRanks, Ranks, common_facts, find_ranks
from aalbert.train.loop.recorders import Recorder, recording
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.loop.steps import every
from aalbert.train.loop.stop_signals import SignalListener, StopOnSignal, raise_if_stopped
from aalbert.train.loop.throughput import Clock, ModelFlops
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.loop.validation import Validation
from aalbert.train.places import (
    data_record,
    digest_places,
    lasting_path,
    open_datasets,
    require_same_files,
)
from aalbert.train.preset import PRETRAIN
from aalbert.train.pretraining.build import (
    PretrainSelections,
    frame_shift_ms,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import (
    MakeModule,
    Pretraining,
    build_pretraining,
    held_out_loss,
)
from aalbert.train.pretraining.pictures import Pictures
from aalbert.train.pretraining.report import write_pretraining_report
from aalbert.train.pretraining.start import Start
from aalbert.train.pretraining.trivial_predictors import (
    TRIVIAL_PREDICTORS,
    HeldOutMeasurement,
    compare_in_words,
    measure_trivial_predictors,
    recorded_predictors,
)
from aalbert.train.run_folder import RunFolder, resume_command
from aalbert.train.run_record import CONTINUED_FROM, START_WEIGHTS

TASK = PRETRAIN
COLUMNS = (*STEP_COLUMNS, "validation_loss")
# Of a loss that is not finite.
WAY_OUT = "start again with a lower optimiser.learning_rate, or with on_nan=skip"


def start_pretraining(
    config: PretrainConfig,
    data: Sequence[Path | str],
    out: Path,
    *,
    start: Start | None = None,
    make_module: MakeModule = Pretraining,
) -> PretrainedModel:
    """Pretrain a new model, or that of a `start`, on datasets and export it to `out/export`.

    `make_module` may give another training step or optimiser than `Pretraining`; such a run cannot
    be resumed by the command. Its `model` is measured, saved and exported.
    A run that `out` has already, finished, is not made again. Raises `ConfigError` when datasets,
    settings and start do not fit, `OutputInUseError` when `out` holds something else, and
    `InterruptedRunError` when a signal stopped the run.
    """
    ranks = find_ranks(config.timeout_s)
    ranks.share(config.batches_per_step)
    require_installed(config.loggers)
    exclude = lasting_path(config.data.exclude)
    config = replace(config, data=replace(config.data, exclude=exclude))
    datasets = [Dataset(place) for place in data]
    run = RunFolder(out)
    facts = {
        "task": TASK,
        **data_record(data, datasets),
        "files": digest_places(named_files(config)),
        "seed": config.seed,
        CONTINUED_FROM: None if start is None else asdict(start.origin),
    }
    # A run that was killed before its last page is continued.
    if run.has_finished(config, facts) and run.report.is_file():
        note(f"{out} has this run, finished: nothing is left to do")
        return PretrainedModel.from_pretrained(out)
    selections = select_utterances(config, datasets, start)
    known = {name: fact for name, fact in facts.items() if fact is not None}
    record = {**known, "threads": torch.get_num_threads()}
    kept = None if start is None else start.model
    with run.begin(config, record, kept) if ranks.first else nullcontext():
        return run_pretraining(config, selections, run, ranks, None, start, make_module=make_module)


def resume_pretraining(
    out: Path, *, extend: int = 0, data: Sequence[Path | str] | None = None
) -> PretrainedModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings.

    `data` are the current places of its datasets, if they were moved. With `extend` it continues
    for so many steps more than it was planned for, with the learning rates of a run that was
    planned with all of them from the beginning.
    """
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{TASK}'")
    config = run.read_config(PretrainConfig)
    require_same_files(record, named_files(config))
    ranks = find_ranks(config.timeout_s)
    ranks.share(config.batches_per_step)
    datasets = open_datasets(record, data)
    start = reopen_start(run, record)
    selections = select_utterances(config, datasets, start)
    with run.hold() if ranks.first else nullcontext():
        if data and ranks.first:
            run.add_to_record(data_record(data, datasets))
        state = latest_state(run.checkpoints)
        if not extend:
            return run_pretraining(config, selections, run, ranks, state, start)
        longer = replace(config, steps=config.steps + extend)
        change = {"step": step_of(state) if state else 0}
        record_change = partial(run.change_config, longer, change)
        return run_pretraining(longer, selections, run, ranks, state, start, record_change)


def reopen_start(run: RunFolder, record: Mapping[str, Any]) -> Start | None:
    """Return the model that a run continues from, of which it has a copy; None if there is none.

    Raises `InputError` when the copy is gone, `IntegrityError` when it is another model.
    """
    document = record.get(CONTINUED_FROM)
    if document is None:
        return None
    origin = as_record(Origin, document)
    way_out = (
        f"put it back, as it was made from {origin.model} (weights {origin.weights_xxh3}), or "
        "start again with --from"
    )
    if not run.start.is_dir():
        raise InputError(f"{run.start}, the model that the run continues from, is gone: {way_out}")
    found, expected = read_config(run.start)["weights_xxh3"], record[START_WEIGHTS]
    if found != expected:
        raise IntegrityError(
            f"{run.start} has the weights {found}, and the run continues from {expected}: {way_out}"
        )
    return Start(PretrainedModel.from_pretrained(run.start), origin)


def named_files(config: PretrainConfig) -> dict[str, str]:
    """Return the files that settings name, by setting."""
    return {"data.exclude": config.data.exclude}


def run_pretraining(
    config: PretrainConfig,
    selections: PretrainSelections,
    run: RunFolder,
    ranks: Ranks,
    state: Path | None,
    start: Start | None = None,
    on_joined: Callable[[], None] | None = None,
    make_module: MakeModule = Pretraining,
) -> PretrainedModel:
    """Train to the last step, from `state` on if there is one, and export the model.

    Without a state it begins with the weights of `start`, or with fresh ones. The first rank
    calls `on_joined` once all ranks are connected and agree; the others wait for it.
    """
    module = build_pretraining(config, selections, make_module, start)
    if start is not None and state is None and ranks.first:
        note(start.describe(module.model))
    fingerprints = [dataset.manifest.fingerprint for dataset in selections.datasets]
    weights = None if start is None else start.origin.weights_xxh3
    wait = on_joined and partial(ranks.from_first, on_joined)
    join = JoinRanks(ranks, common_facts(config, fingerprints, state, weights), wait)
    with recording(run, COLUMNS, config.loggers, ranks, state) as recorder:
        validation = train_module(config, selections, module, run, ranks, state, join, recorder)
    if ranks.first:
        export(config, module.model, run, validation)
        write_pretraining_report(run, selections.datasets)
    ranks.leave()
    return module.model


def train_module(
    config: PretrainConfig,
    selections: PretrainSelections,
    module: Pretraining,
    run: RunFolder,
    ranks: Ranks,
    state: Path | None,
    join: JoinRanks,
    recorder: Recorder,
) -> Validation:
    """Train to the last step, and return the validation, which knows the best one.

    Raises `InterruptedRunError` when a signal stopped it.
    """
    training, held_out = make_loaders(config, selections, ranks)
    batches = len(training.own)
    log = log_settings(config, selections, module.model)
    clock, listener = Clock(), SignalListener()
    due = every(config.validate_every_steps, last=config.steps)
    check_every = math.gcd(config.log_every_steps, config.validate_every_steps)
    check_due = every(check_every, last=config.steps)
    skip = config.on_nan == "skip"
    guard = NonFiniteGuard(run.path, selections.keys, check_due, ranks, skip=skip, way_out=WAY_OUT)
    measure = measure_held_out(module, (training, held_out), run, ranks, listener)
    validation = Validation(
        recorder, measure, due, clock=clock, way_out=WAY_OUT, best_by="validation_loss"
    )
    saver = SaveStates(
        run.checkpoints, due, config.keep_checkpoints, guard, validation, ranks, clock
    )
    # After a step they are called in this order: the state is saved before signals are handled.
    callbacks = [
        join,
        guard,
        StepLog(log, recorder, training, clock, ranks),
        validation,
        Pictures(run.pictures, selections, config, clock, ranks),
        saver,
        StopOnSignal(listener, saver, ranks),
    ]
    trainer = make_trainer(
        run.path,
        callbacks,
        ranks,
        max_steps=config.steps,
        accumulate_grad_batches=batches,
        precision=config.precision,
    )
    with ranks.reporting_failures():
        fit(trainer, module, Stream(training, config.steps * batches), state)
    command = resume_command(TASK, run, [dataset.place for dataset in selections.datasets])
    raise_if_stopped(trainer, listener, command)
    return validation


def measure_held_out(
    module: Pretraining,
    loaders: tuple[Loader, Loader],
    run: RunFolder,
    ranks: Ranks,
    listener: SignalListener,
) -> HeldOutMeasurement:
    """Return the measurement; `loaders` are of the training and of the held-out utterances."""
    predictors = partial(measure_trivial_predictors, module.model, module.config, loaders)
    loss = partial(held_out_loss, module, loaders[1])
    return HeldOutMeasurement(
        run, ranks, partial(predictors, ranks, listener), partial(loss, ranks, listener)
    )


def log_settings(
    config: PretrainConfig, selections: PretrainSelections, model: PretrainedModel
) -> LogSettings:
    """Return the settings of the log of the training steps."""
    return LogSettings(
        description=TASK,
        steps=config.steps,
        every_steps=config.log_every_steps,
        frame_shift_ms=frame_shift_ms(config, selections),
        flops=ModelFlops.of(model),
        precision=config.precision,
    )


def export(
    config: PretrainConfig, model: PretrainedModel, run: RunFolder, validation: Validation
) -> None:
    """Write the model of the last or the best step, and note in `run.json` which one it is.

    Its held-out loss is compared with those of trivial predictors, on stderr.
    """
    step = config.steps
    if config.export == "best" and validation.best_step not in (None, step):
        step = validation.best_step or step
        model.load_state_dict(best_weights(run.checkpoints, step))
    upstream = model.upstream
    exported = {"exported": config.export, "exported_step": step}
    loss, predictors = run.held_out_loss(step), recorded_predictors(run)
    measured = {"held_out_loss": loss, TRIVIAL_PREDICTORS: predictors}
    training = {**upstream.config.training, **exported, **measured}
    upstream.config = replace(upstream.config, training=training)
    model.eval().save_pretrained(run.export)
    run.add_to_record(exported)
    tell = note if loss < predictors["interpolation"] else warn
    tell(compare_in_words(loss, predictors))
