"""`downstream`: from shards and an upstream to a model of a task, selected on the dev part."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aalbert.common.redaction import redact_url
from aalbert.errors import ConfigError, InputError
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.training_states import step_of
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.downstream.build import DownstreamSetup, build_setup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.decisions import classify
from aalbert.train.downstream.measures import DEV_COLUMNS
from aalbert.train.downstream.module import HeadTraining, warn_of_collapse
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.downstream.scoring import (
    gather,
    outputs_of_batches,
    whole_utterances,
)
from aalbert.train.downstream.selection import BestModel
from aalbert.train.downstream.sources import (
    find_sources,
    named_files,
    require_same_upstream,
    with_lasting_paths,
)
from aalbert.train.downstream.standardise import measure_states
from aalbert.train.downstream.state_cache import CachedLoader, StateCache, cache_states
from aalbert.train.downstream.trial_scores import DevTrials, choose_threshold, take_cohort
from aalbert.train.downstream.trials import draw_trials
from aalbert.train.loop.checkpoints import latest_state
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.loop.stop_signals import SignalListener, StopOnSignal, raise_if_stopped
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.loop.validation import Measurement, Validation
from aalbert.train.measurements import MetricsWriter
from aalbert.train.places import lasting_place, open_data, require_same_files, require_whole
from aalbert.train.run_folder import RunFolder, resume_command
from aalbert.train.upstreams import lasting_upstream

COLUMNS = (*STEP_COLUMNS, *DEV_COLUMNS)
KEEP_STATES = 2
# Of a loss that is not finite.
WAY_OUT = "start again with a lower learning_rate"


def start_downstream(
    config: DownstreamConfig,
    data: Path | str,
    upstream: str,
    out: Path,
    *,
    states: Path | None = None,
) -> DownstreamModel:
    """Train the head of a task on a dataset and export the model to `out/export`.

    `upstream` is a run, a saved model, or a feature kind. Cached hidden states are in the
    folder `states`, or in that of the run. Raises `ConfigError` or
    `InputError` when they do not fit, `OutputInUseError` when `out` is not empty.
    """
    dataset, upstream = Dataset(data), lasting_upstream(upstream)
    config = with_lasting_paths(config, dataset)
    sources = find_sources(config, dataset, upstream)
    setup = build_setup(config, dataset, upstream)
    run = RunFolder(out)
    record = {
        "task": config.task,
        "data": lasting_place(data),
        **sources,
        "seed": config.seed,
        "threads": torch.get_num_threads(),
    }
    with run.begin(config, record):
        return run_downstream(config, setup, run, states, state=None)


def resume_downstream(
    out: Path,
    task: str,
    *,
    states: Path | None = None,
    data: Path | str | None = None,
    upstream: str | None = None,
) -> DownstreamModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings.

    `data` and `upstream` are the current places of its dataset and upstream, if they were moved,
    or if the record lacks the secrets of their URLs.
    """
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != task:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{task}'")
    dataset = open_data(record, data)
    config = run.read_config(DownstreamConfig)
    require_same_files(record, named_files(config))
    location = lasting_upstream(upstream) if upstream else record["upstream"]
    require_whole(location, "--upstream")
    require_same_upstream(record, location)
    setup = build_setup(config, dataset, location)
    with run.hold():
        if data:
            run.add_to_record({"data": lasting_place(data)})
        if upstream:
            run.add_to_record({"upstream": redact_url(location)})
        return run_downstream(config, setup, run, states, state=latest_state(run.checkpoints))


def run_downstream(
    config: DownstreamConfig,
    setup: DownstreamSetup,
    run: RunFolder,
    states: Path | None,
    state: Path | None,
) -> DownstreamModel:
    """Train for all epochs, restore the best weights, and export the model.

    A head without a classifier is not trained: its embeddings are centred and measured.
    """
    folder = states or run.path / "states"
    cache = cache_states(config, setup, folder) if config.cache_embeddings else None
    if setup.model.head.classifier is None:
        compare_embeddings(config, setup, run, cache)
    else:
        train_model(config, setup, run, cache, state)
    setup.model.eval().cpu().save_pretrained(run.export)
    return setup.model


def compare_embeddings(
    config: DownstreamConfig, setup: DownstreamSetup, run: RunFolder, cache: StateCache | None
) -> None:
    """Centre embeddings on the mean of the training part, and measure them on dev trials."""
    model, trials = setup.model.eval().to(best_device()), config.trials
    if trials.read_training_part:
        rows, embeddings = training_embeddings(config, setup, cache)
        if trials.centred:
            with torch.no_grad():
                model.head.centre.copy_(embeddings.double().mean(dim=0))
            embeddings = embeddings - model.head.centre.cpu()
        take_cohort(config, setup, rows, embeddings)
    measurement: Measurement = {}
    try:
        dev = dev_trials(config, setup, cache)
    except InputError as error:
        # Nothing is selected by them.
        print(f"no threshold is chosen, and nothing measured on dev: {error}", file=sys.stderr)
    else:
        measurement = measured(choose_threshold(trials, model, dev))
    MetricsWriter(run.metrics, COLUMNS).write(step=0, **measurement)


def training_embeddings(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> tuple[Rows, Tensor]:
    """Return the rows of the training part and their embeddings `(rows, dims)`."""
    loader = make_loader(config, setup, setup.splits.train, cache)
    embeddings = outputs_of_batches(setup.model, loader, setup.model.head.embed)
    return gather(embeddings, setup.dataset.key)


def train_model(
    config: DownstreamConfig,
    setup: DownstreamSetup,
    run: RunFolder,
    cache: StateCache | None,
    state: Path | None,
) -> None:
    """Train from the beginning, or from a saved `state`; the model then has the best weights."""
    if config.mode == "fine-tuned":
        warn_of_collapse(config.fine_tuning)
    model, training = setup.model, training_loader(config, setup, cache)
    if config.head.standardise and state is None:
        measure_states(
            model.to(best_device()), make_loader(config, setup, setup.splits.train, None)
        )
    ends, shift_ms = training.epoch_ends(config.epochs), setup.inputs.stored.frame_shift_ms
    metrics = MetricsWriter(run.metrics, COLUMNS, first_step=step_of(state) if state else 0)
    due, clock, ranks, request = frozenset(ends).__contains__, Clock(), Ranks(), SignalListener()
    print(
        f"{config.task}: {ends[-1]:,} steps in {config.epochs} epochs, batches of up to "
        f"{training.config.order.frames_per_batch * shift_ms / 1000:.0f} s",
        file=sys.stderr,
    )
    log = LogSettings(config.task, ends[-1], ends[0], shift_ms, padding=cache is None)
    best = BestModel(model, dev_measure(config, setup, cache))
    guard = NonFiniteGuard(run.path, setup.dataset.keys, due, ranks, skip=False, way_out=WAY_OUT)
    validation = Validation(metrics, best.measure, due, clock=clock, way_out=WAY_OUT)
    saver = SaveStates(run.checkpoints, due, KEEP_STATES, guard, validation, ranks, clock)
    # After a step they are called in this order: the state is saved before signals are handled.
    callbacks = [
        guard,
        StepLog(log, metrics, training, clock, ranks),
        best,
        validation,
        saver,
        StopOnSignal(request, saver, ranks),
    ]
    trainer = make_trainer(
        run.path,
        callbacks,
        ranks,
        max_steps=ends[-1],
        gradient_clip_val=config.gradient_clip or None,
    )
    module = HeadTraining(model, setup.labels, config, ends)
    fit(trainer, module, Stream(training, ends[-1]), state)
    command = resume_command(
        f"downstream {config.task}", run, [setup.dataset.place], run.read_record()["upstream"]
    )
    raise_if_stopped(trainer, request, command)
    best.restore()
    if setup.pairs is not None:
        if config.trials.normalisation != "none":
            take_cohort(config, setup, *training_embeddings(config, setup, cache))
        choose_threshold(config.trials, model, dev_trials(config, setup, cache))


def dev_measure(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> Callable[[], Measurement]:
    """Return the function that measures the model on the dev part."""
    if setup.pairs is not None:
        dev = dev_trials(config, setup, cache)
        return lambda: measured(dev.score())
    loader = make_loader(config, setup, setup.splits.dev, cache)

    def measure() -> Measurement:
        scores = outputs_of_batches(setup.model, loader, setup.model.head)
        outcome, loss = classify(scores, setup.labels)
        return {**measured(outcome), "dev_loss": loss}

    return measure


def dev_trials(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> DevTrials:
    """Return trials of the dev part, always the same ones."""
    rows = setup.splits.dev
    pairs = draw_trials(setup.dataset, rows, config.trials.dev_count, config.seed)
    return DevTrials(setup.model, setup.inputs, make_loader(config, setup, rows, cache), pairs)


def measured(outcome: Outcome) -> Measurement:
    """Return the measure of an outcome on the dev part as it is recorded."""
    return {outcome.measure.column: round(outcome.value, 6)}


def make_loader(
    config: DownstreamConfig, setup: DownstreamSetup, rows: Rows, cache: StateCache | None
) -> Loader:
    """Return a loader of whole utterances: of stored features, or of cached states."""
    plain = whole_utterances(setup.inputs, rows, config.batch_seconds, config.prefetch)
    return plain if cache is None else CachedLoader(plain.selections, plain.config, cache)


def training_loader(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> Loader:
    """Return the shuffled loader of the training part: random crops, or whole when cached."""
    shift_ms = setup.inputs.stored.frame_shift_ms
    crop_seconds = config.crop_seconds if cache is None else 0
    crop_frames = round(crop_seconds * 1000 / shift_ms) or None
    frames = setup.dataset.frames(setup.inputs.feature)[setup.splits.train]
    frames_per_batch = round(config.batch_seconds * 1000 / shift_ms)
    if config.least_epoch_steps:
        # Of small data a batch is small, so that an epoch still has steps to learn in.
        epoch_frames = int(np.minimum(frames, crop_frames or frames).sum())
        frames_per_batch = max(1, min(frames_per_batch, epoch_frames // config.least_epoch_steps))
    settings = LoaderConfig(
        order=OrderConfig(frames_per_batch=frames_per_batch),
        feature=setup.inputs.feature,
        crop_frames=crop_frames,
        prefetch=config.prefetch,
        seed=config.seed,
    )
    if cache is None:
        return setup.inputs.loader(setup.splits.train, settings)
    return CachedLoader(Selection(setup.dataset, setup.splits.train), settings, cache)
