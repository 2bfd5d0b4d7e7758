"""An estimate of a downstream run, from its settings, its data and ten timed steps."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aalbert.common.redaction import redact_url
from aalbert.common.text import duration
from aalbert.models.device import best_device
from aalbert.models.upstream import count_parameters
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import DownstreamSetup, build_setup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.loaders import training_loader
from aalbert.train.downstream.module import HeadTraining
from aalbert.train.downstream.sources import with_lasting_paths
from aalbert.train.downstream.state_cache import plan_cache, write_states
from aalbert.train.downstream.waves import WaveCorpus
from aalbert.train.loop.loggers import require_installed
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.throughput import FORWARD_AND_BACKWARD
from aalbert.train.loop.timing import (
    STATE_BYTES_PER_PARAMETER,
    TIMED_STEPS,
    WARM_UP_STEPS,
    StepTimes,
    device_name,
    peak_memory,
    time_steps,
)
from aalbert.train.upstreams import lasting_upstream

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """The size of a part of the data."""

    utterances: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class DownstreamEstimate:
    """Exact sizes of a run; seconds and memory are of a few steps on one device of this machine.

    `seconds` are those of the whole run, of which `caching_seconds` compute the hidden states that
    are cached, and `standardising_seconds` their mean and deviation. Where nothing is trained there
    are no steps.
    """

    task: str
    data: str
    upstream: str
    mode: str
    classes: int
    parts: Mapping[str, Part]
    parameters: int
    trained_parameters: int
    epochs: int
    steps: int
    seconds_per_step: float
    caching_seconds: float
    standardising_seconds: float
    seconds: float
    device: str
    state_bytes: int
    peak_bytes: int

    def describe(self) -> str:
        """Return the estimate in words."""
        gib = 2**30
        parts = ", ".join(
            f"{name} {part.utterances:,} utterances ({part.hours:,.2f} hours)"
            for name, part in self.parts.items()
        )
        timed = f"from {TIMED_STEPS} steps of {self.seconds_per_step:.3f} s, the dev part included"
        if not self.steps:
            timed = "in which nothing is trained"
        elif self.caching_seconds:
            timed += f", {duration(self.caching_seconds)} of it for states that are cached"
        if self.standardising_seconds:
            timed += f", {duration(self.standardising_seconds)} of it to standardise states"
        return (
            f"{self.task} on {self.upstream} ({self.mode}), {self.classes:,} classes\n"
            f"{self.data}: {parts}\n"
            f"{self.parameters:,} parameters, {self.trained_parameters:,} of them are trained\n"
            f"{self.steps:,} steps in {self.epochs:,} epochs\n"
            f"about {duration(self.seconds)} on {self.device}, {timed}\n"
            f"{self.state_bytes / gib:.2f} GiB of weights, gradients and optimiser, "
            f"{self.peak_bytes / gib:.2f} GiB of memory at most; nothing was written"
        )


def estimate_downstream(
    config: DownstreamConfig, data: Path | str, upstream: str, corpus: WaveCorpus | None = None
) -> DownstreamEstimate:
    """Estimate a run by one process without writing anything that stays.

    An upstream that reads waves has them from the `corpus`. Raises the errors that the run itself
    would raise at its start.
    """
    require_installed(config.loggers)
    dataset, upstream = Dataset(data), lasting_upstream(upstream)
    setup = build_setup(with_lasting_paths(config, dataset), dataset, upstream, corpus)
    hours = setup.inputs.seconds() / 3600
    splits = {"train": setup.splits.train, "dev": setup.splits.dev, "test": setup.splits.test}
    parts = {
        name: Part(utterances=len(rows), hours=round(float(hours[rows].sum()), 6))
        for name, rows in splits.items()
    }
    trains = setup.model.head.classifier is not None
    caching, standardising = encoding_seconds(config, setup)
    timed = time_training(config, setup) if trains else None
    steps = count_steps(config, setup) if trains else 0
    seconds = caching + standardising
    if timed is not None:
        seconds += steps * timed.seconds * (1 + dev_share(config, setup))
    trained = sum(
        parameter.numel()
        for parameter in setup.model.parameters()
        if trains and parameter.requires_grad
    )
    parameters, device = count_parameters(setup.model), best_device()
    return DownstreamEstimate(
        task=config.task,
        data=redact_url(dataset.place),
        upstream=redact_url(upstream),
        mode=config.mode,
        classes=len(setup.labels.names),
        parts=parts,
        parameters=parameters,
        trained_parameters=trained,
        epochs=config.epochs if trains else 0,
        steps=steps,
        seconds_per_step=round(timed.seconds if timed else 0.0, 5),
        caching_seconds=round(caching, 5),
        standardising_seconds=round(standardising, 5),
        seconds=round(seconds, 5),
        device=device_name(device),
        state_bytes=STATE_BYTES_PER_PARAMETER * trained + FLOAT32_BYTES * (parameters - trained),
        peak_bytes=peak_memory(device),
    )


def count_steps(config: DownstreamConfig, setup: DownstreamSetup) -> int:
    """Return the number of steps of all epochs."""
    cache = plan_cache(setup, setup.splits.train, Path()) if config.cache_embeddings else None
    return training_loader(config, setup, cache, Ranks()).epoch_ends(config.epochs)[-1]


def time_training(config: DownstreamConfig, setup: DownstreamSetup) -> StepTimes:
    """Return the means of a few steps, in which all is trained that is trained at last.

    Of cached states those of a sample are computed, into a folder that is removed.
    """
    steps = WARM_UP_STEPS + TIMED_STEPS
    # All layers from the first step on.
    tuning = replace(config.fine_tuning, frozen_epochs=0, epochs_per_layer=0)
    quick = replace(config, fine_tuning=tuning)
    with TemporaryDirectory() as folder:
        cache = None
        if config.cache_embeddings:
            rows = sample(setup, config.batch_seconds * config.batches_per_step)
            setup = replace(setup, splits=replace(setup.splits, train=rows))
            cache = plan_cache(setup, rows, Path(folder))
            write_states(config, setup, cache)
        loader = training_loader(quick, setup, cache, Ranks())
        module = HeadTraining(setup.model, setup.labels, quick, [steps])
        return time_steps(module, loader, config.precision)


def dev_share(config: DownstreamConfig, setup: DownstreamSetup) -> float:
    """Return the time to measure the dev part, in that of the steps of an epoch.

    Whole utterances are measured, where an epoch may read a crop of each.
    """
    seconds = setup.inputs.seconds()
    read = seconds[setup.splits.train]
    if config.crop_seconds and not config.cache_embeddings:
        read = np.minimum(read, config.crop_seconds)
    # Of a frozen encoder, a step is a forward pass too.
    share = 1 if config.mode == "frozen" else 1 / FORWARD_AND_BACKWARD
    return float(seconds[setup.splits.dev].sum() / read.sum()) * share


def encoding_seconds(config: DownstreamConfig, setup: DownstreamSetup) -> tuple[float, float]:
    """Return the seconds to compute states before training: to cache, and to standardise them."""
    seconds, splits = setup.inputs.seconds(), setup.splits
    caches = config.cache_embeddings or setup.model.head.classifier is None
    if not caches and not config.head.standardise:
        return 0.0, 0.0
    rate = seconds_per_second(config, setup)
    cached = float(seconds[np.union1d(splits.train, splits.dev)].sum()) if caches else 0.0
    standardised = float(seconds[splits.train].sum()) if config.head.standardise else 0.0
    return rate * cached, rate * standardised


def seconds_per_second(config: DownstreamConfig, setup: DownstreamSetup) -> float:
    """Return the seconds that the upstream takes for a second of data, from a sample of it."""
    rows = sample(setup, config.batch_seconds)
    # A process that reads ahead takes longer to start than a sample to read.
    config = replace(config, prefetch=0)
    with TemporaryDirectory() as folder:
        taken = []
        # The first time allocates.
        for attempt in ("first", "second"):
            began = time.perf_counter()
            write_states(config, setup, plan_cache(setup, rows, Path(folder) / attempt))
            taken.append(time.perf_counter() - began)
    return taken[-1] / float(setup.inputs.seconds()[rows].sum())


def sample(setup: DownstreamSetup, seconds: float) -> Rows:
    """Return training rows of about as many seconds in all, from the beginning to the end."""
    rows = setup.splits.train
    whole = float(setup.inputs.seconds()[rows].sum())
    count = min(len(rows), max(1, round(len(rows) * seconds / whole)))
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))]
