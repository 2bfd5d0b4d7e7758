"""`downstream`: from shards and an upstream to a model of a task, chosen on the dev part."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from aalbert.common.configuration import load_config, to_yaml
from aalbert.common.store import is_url
from aalbert.errors import ConfigError
from aalbert.models.checkpoint import find_checkpoint
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader, Stream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.downstream.build import Job, build_job
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.error_rates import equal_error_rate, error_rates
from aalbert.train.downstream.module import HeadTraining, warn_of_collapse
from aalbert.train.downstream.scoring import decide, embed_all, score_trials, whole_utterances
from aalbert.train.downstream.selection import BestModel
from aalbert.train.downstream.state_cache import CachedLoader, StateCache, cache_states
from aalbert.train.downstream.trials import draw_trials
from aalbert.train.loop.checkpoints import latest_state, step_of
from aalbert.train.loop.non_finite_guard import NonFiniteGuard
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.save_states import SaveStates
from aalbert.train.loop.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.loop.stop_signals import SignalListener, StopOnSignal, raise_if_stopped
from aalbert.train.loop.throughput import Clock
from aalbert.train.loop.trainer import fit, make_trainer
from aalbert.train.loop.validation import Measurement, Validation
from aalbert.train.run_folder import MetricsWriter, RunFolder, lasting_place, open_data

COLUMNS = (*STEP_COLUMNS, "dev_loss", "dev_accuracy", "dev_eer")
KEEP_STATES = 2


def start_downstream(
    config: DownstreamConfig,
    data: Path | str,
    upstream: str,
    out: Path,
    *,
    states: Path | None = None,
) -> DownstreamModel:
    """Train the head of a task on a dataset and export the model to `out/export`.

    `upstream` is a run, a saved model, or a feature kind. Cached hidden states lie in the
    folder `states`, or in the run's own. Raises `ConfigError` or
    `InputError` when they do not fit, `OutputInUseError` when `out` holds something.
    """
    dataset = Dataset(data)
    location = upstream
    if upstream not in SETTINGS_BY_KIND and not is_url(upstream):
        location = str(find_checkpoint(upstream).resolve())
    config = with_lasting_paths(config)
    job = build_job(config, dataset, location)
    run = RunFolder(out)
    record = {
        "task": config.task,
        "data": lasting_place(data),
        "data_fingerprint": dataset.manifest.fingerprint,
        "upstream": location,
        "seed": config.seed,
    }
    run.create(to_yaml(config), record)
    with run.hold():
        return run_downstream(config, job, run, states, state=None)


def resume_downstream(out: Path, task: str, *, states: Path | None = None) -> DownstreamModel:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings."""
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != task:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{task}'")
    dataset = open_data(record)
    config = load_config(DownstreamConfig, file=run.config, environment={})
    job = build_job(config, dataset, record["upstream"])
    with run.hold():
        return run_downstream(config, job, run, states, state=latest_state(run.checkpoints))


def with_lasting_paths(config: DownstreamConfig) -> DownstreamConfig:
    """Return the settings with the paths of files as they are found from anywhere."""
    splits, labels, trials = config.splits, config.labels, config.trials
    return replace(
        config,
        splits=replace(
            splits,
            train_list=absolute(splits.train_list),
            test_list=absolute(splits.test_list),
        ),
        labels=replace(labels, alignments=absolute(labels.alignments)),
        trials=replace(trials, test=absolute(trials.test)),
    )


def absolute(path: str) -> str:
    """Return a path from the root, or nothing for nothing."""
    return str(Path(path).resolve()) if path else ""


def run_downstream(
    config: DownstreamConfig, job: Job, run: RunFolder, states: Path | None, state: Path | None
) -> DownstreamModel:
    """Train for all epochs, put the best weights back, and export the model.

    A head without a classifier is measured and exported as it is.
    """
    folder = states or run.path / "states"
    cache = cache_states(config, job, folder) if config.cache_embeddings else None
    if job.model.head.classifier is None:
        settle_embeddings(config, job, run, cache)
    else:
        train_model(config, job, run, cache, state)
    job.model.eval().cpu().save_pretrained(run.export)
    return job.model


def settle_embeddings(
    config: DownstreamConfig, job: Job, run: RunFolder, cache: StateCache | None
) -> None:
    """Centre embeddings on the mean of the training part, and measure them on dev trials."""
    model = job.model.eval().to(best_device())
    _, embeddings = embed_all(model, make_loader(config, job, job.parts.train, cache))
    with torch.no_grad():
        model.head.centre.copy_(embeddings.double().mean(dim=0))
    MetricsWriter(run.metrics, COLUMNS).write(step=0, **dev_measure(config, job, cache)())


def train_model(
    config: DownstreamConfig,
    job: Job,
    run: RunFolder,
    cache: StateCache | None,
    state: Path | None,
) -> None:
    """Train from `state` on, if there is one, and leave the best weights in the model."""
    if config.mode == "fine-tuned":
        warn_of_collapse(config.fine_tuning)
    model, training = job.model, training_loader(config, job, cache)
    ends = training.epoch_ends(config.epochs)
    metrics = MetricsWriter(run.metrics, COLUMNS, first_step=step_of(state) if state else 0)
    due, clock, ranks, request = frozenset(ends).__contains__, Clock(), Ranks(), SignalListener()
    log = LogSettings(config.task, ends[-1], ends[0], shift_ms(job), padding=cache is None)
    best = BestModel(model, dev_measure(config, job, cache))
    guard = NonFiniteGuard(run.path, job.dataset.keys, due, ranks, skip=False)
    validation = Validation(metrics, best.measure, due, clock=clock)
    saver = SaveStates(run.checkpoints, due, KEEP_STATES, guard, validation, ranks, clock)
    # After a step they are called in this order: the state is saved before signals are looked at.
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
    module = HeadTraining(model, job.labels, config, ends)
    fit(trainer, module, Stream(training, ends[-1]), state)
    command = f"aalbert downstream {config.task} --resume --out {shlex.quote(str(run.path))}"
    raise_if_stopped(trainer, request, command)
    best.restore()


def dev_measure(
    config: DownstreamConfig, job: Job, cache: StateCache | None
) -> Callable[[], Measurement]:
    """Return the function that measures the model on the dev part."""
    loader = make_loader(config, job, job.parts.dev, cache)
    if job.pairs is None:
        return partial(measure_decisions, job, loader)
    pairs = draw_trials(job.dataset, job.parts.dev, config.trials.dev_count, config.seed)

    def measure_trials() -> Measurement:
        trials = score_trials(*embed_all(job.model, loader), pairs)
        eer = round(equal_error_rate(error_rates(trials.scores, trials.same)), 6)
        return {"dev_eer": eer}

    return measure_trials


def measure_decisions(job: Job, loader: Loader) -> Measurement:
    """Return accuracy and loss on what a loader gives."""
    decisions, loss = decide(job.model, loader, job.labels)
    return {"dev_accuracy": round(decisions.accuracy, 6), "dev_loss": loss}


def shift_ms(job: Job) -> float:
    """Return the time from one stored frame to the next."""
    return job.dataset.manifest.features[job.feature].frame_shift_ms


def make_loader(config: DownstreamConfig, job: Job, rows: Rows, cache: StateCache | None) -> Loader:
    """Return the loader of whole utterances, of stored features or of cached states."""
    plain = whole_utterances(job.dataset, rows, job.feature, config.batch_seconds, config.prefetch)
    return plain if cache is None else CachedLoader(plain.selections, plain.config, cache)


def training_loader(config: DownstreamConfig, job: Job, cache: StateCache | None) -> Loader:
    """Return the loader of the training part: shuffled, with random crops, or whole when cached."""
    crop = config.crop_seconds if cache is None else 0
    settings = LoaderConfig(
        order=OrderConfig(frames_per_batch=round(config.batch_seconds * 1000 / shift_ms(job))),
        feature=job.feature,
        crop_frames=round(crop * 1000 / shift_ms(job)) or None,
        prefetch=config.prefetch,
        seed=config.seed,
    )
    selection = Selection(job.dataset, job.parts.train)
    return (
        Loader(selection, settings) if cache is None else CachedLoader(selection, settings, cache)
    )
