"""Steps of `aalbert pretrain` that are timed, from prepared features alone.

`benchmarks.pretrain` compares them with the reference's in rounds, `benchmarks.gpu` measures each
way once.
"""

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from aalbert.shards.format.feature_settings import FeatureSettings, settings_from_dict
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.throughput import ModelFlops, peak_flops
from aalbert.train.loop.timing import TIMED_STEPS, WARM_UP_STEPS, time_steps
from aalbert.train.pretraining.build import (
    build_model,
    frame_shift_ms,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining

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
        Pretraining(model, config),
        make_loaders(config, selections)[0],
        config.precision,
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
