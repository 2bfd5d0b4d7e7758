"""Steps of pretraining that are timed: ours, and the reference's on the same audio.

`benchmarks.pretrain` compares them in rounds, `benchmarks.gpu` measures each once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import FeatureSettings, settings_from_dict
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.throughput import ModelFlops, peak_flops
from aalbert.train.pretraining.build import build_model, frame_shift_ms, select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.estimate import TIMED_STEPS, WARM_UP_STEPS, time_steps
from aalbert.train.pretraining.module import Pretraining
from benchmarks.pretrain_reference import SAMPLE_RATE, Reference, read_waves

REFERENCE_STEPS = 3
MATMUL_SIZE = 2048


@dataclass(frozen=True, kw_only=True)
class Step:
    """The means of timed steps: seconds, the seconds waited for data, and what was trained on.

    `audio_s` is real audio, `tokens` are real encoder frames, `operations` those that MFU counts,
    `padding` is the share of the frames that were padding.
    """

    seconds: float
    waited_s: float
    audio_s: float
    tokens: float
    operations: float
    padding: float


def write_speech(corpus: Path, utterances_per_speaker: int = 8) -> None:
    """Write a LibriSpeech of 8 speakers of synthetic speech, with a training split only."""
    write_librispeech(
        corpus,
        speakers=8,
        utterances_per_speaker=utterances_per_speaker,
        seed=1,
        seconds=(9.0, 16.0),
    )


def prepare_for(config: PretrainConfig, corpus: Path, data: Path, workers: int = 1) -> None:
    """Compute the features that a preset reads."""
    stored = PrepareConfig(features=features_of(config))
    limits = PrepareLimits(engine=LocalEngine(workers=workers))
    prepare(read_librispeech(corpus), data, stored, limits)


def features_of(config: PretrainConfig) -> tuple[FeatureSettings, ...]:
    """Return the features that a preset lists, or its only one with default settings."""
    named = config.data.features or {config.data.feature: {}}
    return tuple(settings_from_dict({"kind": kind, **made}) for kind, made in named.items())


def scale(config: PretrainConfig, seconds: float) -> PretrainConfig:
    """Return the settings with one batch of so many seconds of audio per step."""
    crop = min(config.data.crop_seconds, seconds)
    shortest = min(config.data.shortest_seconds, crop / 2)
    data = replace(
        config.data,
        batch_seconds=seconds,
        crop_seconds=crop,
        shortest_seconds=shortest,
        static_seconds=(),
    )
    return replace(config, data=data, batches_per_step=1)


def time_ours(
    config: PretrainConfig,
    data: Path,
    *,
    warm_up_steps: int = WARM_UP_STEPS,
    timed_steps: int = TIMED_STEPS,
) -> Step:
    """Time steps of `aalbert pretrain`."""
    selections = select_utterances(config, [Dataset(data)])
    model = build_model(config, selections)
    timed = time_steps(
        config,
        Pretraining(model, config),
        selections,
        Ranks(),
        warm_up_steps=warm_up_steps,
        timed_steps=timed_steps,
    )
    return Step(
        seconds=timed.seconds,
        waited_s=timed.waited_s,
        audio_s=timed.frames * frame_shift_ms(config, selections) / 1000,
        tokens=timed.frames / config.front_end.frames_stacked,
        operations=ModelFlops.of(model).count(timed.frames, timed.squared_frames),
        padding=1 - timed.frames / timed.padded_frames,
    )


def time_reference(
    config: PretrainConfig, corpus: Path, device: torch.device, steps: int = REFERENCE_STEPS
) -> float:
    """Return the seconds that the reference takes for a second of audio."""
    files = sorted(corpus.rglob("*.flac"))
    crop = round(config.data.crop_seconds * SAMPLE_RATE)
    count = max(1, round(config.data.batch_seconds / min(config.data.crop_seconds, 12.0)))
    batches = [
        [files[(step * count + place) % len(files)] for place in range(count)]
        for step in range(steps + 1)
    ]
    model = Reference(config).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    train_reference(model, optimiser, batches[:1], crop, device, config.batches_per_step)
    started = time.perf_counter()
    heard = train_reference(model, optimiser, batches[1:], crop, device, config.batches_per_step)
    return (time.perf_counter() - started) / heard


def train_reference(
    model: Reference,
    optimiser: torch.optim.Optimizer,
    batches: Sequence[Sequence[Path]],
    crop: int,
    device: torch.device,
    batches_per_step: int,
) -> float:
    """Train a step on each batch, wait for the device, and return the seconds of audio."""
    heard = 0
    for paths in batches:
        optimiser.zero_grad()
        for _ in range(batches_per_step):
            waves, samples = read_waves(paths, crop)
            heard += int(samples.sum())
            loss = model(waves.to(device), samples.to(device))
            (loss / batches_per_step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        # The reference shows the loss at every step.
        float(loss.detach())
    return heard / SAMPLE_RATE


def peak_of(device: torch.device, precision: str) -> float | None:
    """Return the peak operations per second; of a CPU, the speed of large matrix products."""
    return matmul_flops() if device.type == "cpu" else peak_flops(device, precision)


@cache
def matmul_flops() -> float:
    """Return the operations per second of products of float32 matrices, the fastest of ten."""
    left, right = torch.randn(2, MATMUL_SIZE, MATMUL_SIZE)
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - started)
    return float(2 * MATMUL_SIZE**3 / min(taken))
