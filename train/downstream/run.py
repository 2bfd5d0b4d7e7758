"""`downstream`: from shards and an upstream to a model of a task, selected on the dev part."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aalbert.common.notes import note
from aalbert.common.redaction import redact_url
from aalbert.errors import ConfigError, InputError, require
from aalbert.models.any_upstream import AnyUpstream, parameters_of
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import DownstreamSetup, build_setup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.dev_measures import dev_measure, dev_trials, measured
from aalbert.train.downstream.loaders import make_loader, training_loader
from aalbert.train.downstream.measures import DEV_COLUMNS
from aalbert.train.downstream.module import HeadTraining, warn_of_collapse
from aalbert.train.downstream.scoring import (
    gather,
    outputs_of_batches,
)
from aalbert.train.downstream.selection import BestModel
from aalbert.train.downstream.sources import (
    find_sources,
    named_files,
    require_same_upstream,
    with_lasting_paths,
)
from aalbert.train.downstream.standardise import state_statistics
from aalbert.train.downstream.state_cache import StateCache, plan_cache, write_states
from aalbert.train.downstream.trial_scores import choose_threshold, take_cohort
from aalbert.train.downstream.waves import WaveCorpus, corpus_record
from aalbert.train.loop.checkpoints import latest_state
from aalbert.train.loop.loggers import require_installed
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import JoinRanks, Ranks, common_facts, find_ranks
from aalbert.train.loop.recorders import Recorder, recording
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.loop.stop_signals import SignalListener, StopOnSignal, raise_if_stopped
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.loop.validation import Measurement, Validation
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
    corpus: WaveCorpus | None = None,
) -> DownstreamModel:
    """Train the head of a task on a dataset and export the model to `out/export`.

    `upstream` is a run, a saved model, a feature kind, or the name of an encoder of another
    library, which reads waves of the `corpus`. Cached hidden states are in the
    folder `states`, or in that of the run. A run that `out` has already, finished, is not made
    again. Raises `ConfigError` or
    `InputError` when they do not fit, `OutputInUseError` when `out` is not empty.
    """
    ranks = share_steps(config)
    require_installed(config.loggers)
    dataset, upstream = Dataset(data), lasting_upstream(upstream)
    config = with_lasting_paths(config, dataset)
    sources = find_sources(config, dataset, upstream)
    run = RunFolder(out)
    facts = {"task": config.task, **sources, **corpus_record(corpus), "seed": config.seed}
    if run.has_finished(config, {"corpus": None, **facts}):
        note(f"{out} has this run, finished: nothing is left to do")
        return DownstreamModel.from_pretrained(out)
    setup = build_setup(config, dataset, upstream, corpus)
    record = {
        **facts,
        "data": lasting_place(data),
        **upstream_record(setup.model.upstream),
        "threads": torch.get_num_threads(),
    }
    with run.begin(config, record) if ranks.first else nullcontext():
        weights = sources["upstream_weights"]
        return run_downstream(config, setup, run, ranks, weights, states, state=None)


def resume_downstream(
    out: Path,
    task: str,
    *,
    states: Path | None = None,
    data: Path | str | None = None,
    upstream: str | None = None,
    corpus: WaveCorpus | None = None,
) -> DownstreamModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings.

    `data` and `upstream` are the current places of its dataset and upstream, if they were moved,
    or if the record lacks the secrets of their URLs; so is that of the `corpus`.
    """
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != task:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{task}'")
    dataset = open_data(record, data)
    config = run.read_config(DownstreamConfig)
    ranks = share_steps(config)
    require_installed(config.loggers)
    require_same_files(record, named_files(config))
    location = lasting_upstream(upstream) if upstream else record["upstream"]
    require_whole(location, "--upstream")
    require_same_upstream(record, location)
    corpus = corpus and corpus.or_recorded(record)
    setup = build_setup(config, dataset, location, corpus)
    with run.hold() if ranks.first else nullcontext():
        if data and ranks.first:
            run.add_to_record({"data": lasting_place(data)})
        if upstream and ranks.first:
            run.add_to_record({"upstream": redact_url(location)})
        if ranks.first:
            run.add_to_record(corpus_record(corpus))
        state = latest_state(run.checkpoints)
        weights = record["upstream_weights"]
        return run_downstream(config, setup, run, ranks, weights, states, state)


def share_steps(config: DownstreamConfig) -> Ranks:
    """Return the ranks of this run; `ConfigError` when they cannot share its steps."""
    ranks = find_ranks(config.timeout_s)
    ranks.share(config.batches_per_step)
    require(
        ranks.size == 1 or config.head.classifier != "none",
        f"head.classifier none trains nothing that {ranks.size} ranks could share: start it as one "
        "process",
    )
    return ranks


def upstream_record(upstream: AnyUpstream) -> dict[str, Any]:
    """Return the entries of a run's record for the size of its upstream, and its library."""
    record: dict[str, Any] = {"upstream_parameters": parameters_of(upstream)}
    if isinstance(upstream, WaveUpstream):
        record["upstream_software"] = upstream.config.software
    return record


def run_downstream(
    config: DownstreamConfig,
    setup: DownstreamSetup,
    run: RunFolder,
    ranks: Ranks,
    upstream_weights: str | None,
    states: Path | None,
    state: Path | None,
) -> DownstreamModel:
    """Train for all epochs, restore the best weights, and export the model.

    A head without a classifier is not trained: its embeddings are centred and measured.
    `upstream_weights` is the hash of the weights that every rank must begin with.
    """
    rows, folder = np.union1d(setup.splits.train, setup.splits.dev), states or run.path / "states"
    cache = plan_cache(setup, rows, folder) if config.cache_embeddings else None
    prepare = partial(prepare_training, config, setup, cache, ranks, resumed=state is not None)
    with recording(run, COLUMNS, config.loggers, ranks, state) as recorder:
        if setup.model.head.classifier is None:
            prepare()
            compare_embeddings(config, setup, recorder, cache)
        else:
            fingerprints = [setup.dataset.manifest.fingerprint]
            facts = common_facts(config, fingerprints, state, upstream_weights)
            join = JoinRanks(ranks, facts, prepare)
            train_model(config, setup, run, ranks, cache, state, join, recorder)
    if ranks.first:
        setup.model.eval().cpu().save_pretrained(run.export)
    ranks.leave()
    return setup.model


def prepare_training(
    config: DownstreamConfig,
    setup: DownstreamSetup,
    cache: StateCache | None,
    ranks: Ranks,
    *,
    resumed: bool,
) -> None:
    """Let the first rank compute what training needs of the upstream's states.

    That are the cache, and their mean and deviation, which all ranks get.
    """
    if cache is not None:
        ranks.from_first(partial(write_states, config, setup, cache))
    if config.head.standardise and not resumed:
        head, loader = setup.model.head, make_loader(config, setup, setup.splits.train, None)
        mean, deviation = ranks.from_first(partial(state_statistics, setup.model, loader))
        head.mean.copy_(mean)
        head.deviation.copy_(deviation)


def compare_embeddings(
    config: DownstreamConfig, setup: DownstreamSetup, recorder: Recorder, cache: StateCache | None
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
        note(f"no threshold is chosen, and nothing measured on dev: {error}")
    else:
        measurement = measured(choose_threshold(config, setup, dev))
    recorder.write(step=0, **measurement)


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
    ranks: Ranks,
    cache: StateCache | None,
    state: Path | None,
    join: JoinRanks,
    recorder: Recorder,
) -> None:
    """Train from the beginning, or from a saved `state`; the model then has the best weights.

    Raises `InterruptedRunError` when a signal stopped it.
    """
    if config.mode == "fine-tuned" and ranks.first:
        warn_of_collapse(config.fine_tuning)
    model, training = setup.model, training_loader(config, setup, cache, ranks)
    batches, ends = len(training.own), training.epoch_ends(config.epochs)
    shift_ms = setup.inputs.stored.frame_shift_ms
    due, clock, listener = frozenset(ends).__contains__, Clock(), SignalListener()
    if ranks.first:
        note(describe_steps(config, setup, training, ends))
    reads_features = cache is None and setup.inputs.waves is None
    log = LogSettings(config.task, ends[-1], ends[0], shift_ms, padding=reads_features)
    best = BestModel(model, partial(ranks.from_first, dev_measure(config, setup, cache)))
    guard = NonFiniteGuard(run.path, setup.dataset.keys, due, ranks, skip=False, way_out=WAY_OUT)
    validation = Validation(recorder, best.measure, due, clock=clock, way_out=WAY_OUT)
    saver = SaveStates(run.checkpoints, due, KEEP_STATES, guard, validation, ranks, clock)
    # After a step they are called in this order: the state is saved before signals are handled.
    callbacks = [
        join,
        guard,
        StepLog(log, recorder, training, clock, ranks),
        best,
        validation,
        saver,
        StopOnSignal(listener, saver, ranks),
    ]
    trainer = make_trainer(
        run.path,
        callbacks,
        ranks,
        max_steps=ends[-1],
        accumulate_grad_batches=batches,
        precision=config.precision,
        gradient_clip_val=config.gradient_clip or None,
    )
    module = HeadTraining(model, setup.labels, config, ends)
    with ranks.reporting_failures():
        fit(trainer, module, Stream(training, ends[-1] * batches), state)
    command = resume_command(
        f"downstream {config.task}", run, [setup.dataset.place], run.read_record()["upstream"]
    )
    raise_if_stopped(trainer, listener, command)
    best.restore()
    if setup.pairs is not None and ranks.first:
        measure_scores(config, setup, cache)


def measure_scores(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> None:
    """Give a trained model its cohort and its threshold, without dropout, as its scores are.

    Lightning has left it on the CPU.
    """
    setup.model.eval().to(best_device())
    if config.trials.normalisation != "none":
        take_cohort(config, setup, *training_embeddings(config, setup, cache))
    choose_threshold(config, setup, dev_trials(config, setup, cache))


def describe_steps(
    config: DownstreamConfig, setup: DownstreamSetup, training: Loader, ends: Sequence[int]
) -> str:
    """Return the number of steps of a run, and what one takes, in words."""
    seconds = training.config.order.frames_per_batch * setup.inputs.stored.frame_shift_ms / 1000
    count = f"{config.batches_per_step} batches" if config.batches_per_step > 1 else "batches"
    return (
        f"{config.task}: {ends[-1]:,} steps in {config.epochs} epochs, {count} of up to "
        f"{seconds:.0f} s"
    )
