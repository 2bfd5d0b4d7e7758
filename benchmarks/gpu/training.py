"""The stage `training`: a real run with all the time that is left, and what it has learned.

`aalbert-3l` is pretrained in the fastest way, with as many steps as there is time for; its held-out
loss is written with the minute it was measured in. A probe of the frozen encoder follows, of
speakers or of another task; beside it stand the same encoder untrained, and log-mel features.
"""

import threading
import time
from dataclasses import replace
from pathlib import Path

from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.recipes import read_task_recipe
from aalbert.train.run_folder import RunFolder
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config
from benchmarks.gpu.profiling import fastest_way
from benchmarks.gpu.steps import FIRST
from benchmarks.pretrain_steps import time_ours

# The share of the time for the probe, and what validation and checkpoints add to a step.
PROBE_SHARE, OVERHEAD = 0.35, 1.15
VALIDATIONS = 12
MOST_STEPS = {"cuda": 100_000, "cpu": 24}
EPOCHS = {"cuda": 20, "cpu": 1}
# Of little data a larger part than usual is held out, to measure on more than a few utterances.
VALIDATION_PROPORTION = 0.1


def run(context: Context) -> None:
    """Pretrain, writing the held-out loss by the minute, and probe."""
    work = Path(context.work) / "training"
    work.mkdir()
    config = fastest_way(context).of(
        read_preset_config(FIRST, context), rehearsal=context.rehearsal
    )
    config = replace(config, data=replace(config.data, validation_proportion=VALIDATION_PROPORTION))
    data = data_for(config, context)
    config = for_time(config, data, context)
    out = work / "pretrain"
    finished = threading.Event()
    watcher = threading.Thread(target=watch, args=(RunFolder(out), context, finished))
    watcher.start()
    try:
        start_pretraining(config, [data], out)
    finally:
        finished.set()
        watcher.join()
    probe(out, data, work, context)


def for_time(config: PretrainConfig, data: Path, context: Context) -> PretrainConfig:
    """Return the settings with the number of steps that there is time for."""
    timed = {"warm_up_steps": 1, "timed_steps": 2} if context.rehearsal else {}
    step = time_ours(config, data, **timed)
    seconds = context.left_s * (1 - PROBE_SHARE)
    steps = min(MOST_STEPS[context.device], max(1, int(seconds / (step.seconds * OVERHEAD))))
    context.write(
        kind="plan",
        preset=FIRST,
        batching=config.data.batching,
        compiled=config.compile,
        steps=steps,
        seconds=round(seconds, 1),
        audio_hours=round(steps * step.audio_s / 3600, 2),
    )
    every = max(1, steps // VALIDATIONS)
    return replace(
        config, steps=steps, validate_every_steps=every, log_every_steps=every, loggers=()
    )


def watch(run: RunFolder, context: Context, finished: threading.Event) -> None:
    """Write every measurement of a run with the minute in which it was found."""
    started, seen = time.perf_counter(), 0
    while True:
        last = finished.wait(0.5)
        rows = run.read_metrics() if run.metrics.is_file() else []
        for row in rows[seen:]:
            minutes = round((time.perf_counter() - started) / 60, 3)
            context.write(kind="measurement", minutes=minutes, **row)
        seen = len(rows)
        if last:
            return


def probe(run: Path, data: Path, work: Path, context: Context) -> None:
    """Probe the run, the same encoder untrained, and log-mel features."""
    config = replace(
        read_task_recipe(context.probe, environment={}, assignments=context.probe_settings),
        epochs=EPOCHS[context.device],
        cache_embeddings=True,
    )
    for name, upstream, untrained in (
        ("pretrained", str(run), False),
        ("untrained", str(run), True),
        ("log-mel", "logmel", False),
    ):
        out = work / name
        start_downstream(replace(config, untrained=untrained), data, upstream, out)
        [evaluation] = evaluate_runs([out])
        result = evaluation.result
        context.write(
            kind="probe",
            upstream=name,
            task=context.probe,
            accuracy=round(result.metric.value, 4),
            interval_95=[round(each, 4) for each in result.metric.interval_95],
            chance=round(evaluation.measured.baselines["guessing"], 4),
            **result.counts,
        )
