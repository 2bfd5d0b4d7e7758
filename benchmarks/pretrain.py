"""Step time and MFU of every preset on this device, compared with the reference's method.

    python -m benchmarks.pretrain [--rounds 3] [--seconds 480] [--presets aalbert-3l ...]

Each preset trains on synthetic speech at its own batch size; on a CPU, or with `--seconds`, a
step has a fixed number of seconds of audio instead, which each line states. `aalbert` is a step of
`aalbert pretrain`, in float32, and on a GPU also under bfloat16 autocast. The reference decodes
FLAC and computes features at every step, in float32, padded and eager; its time is scaled to the
same amount of real audio. All take turns in every round; each line is one JSON document with the
median, the fastest and the slowest round. MFU is relative to the peak in the data sheet of a GPU;
on a CPU, to the speed of a product of large matrices.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from aalbert.models.device import best_device
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import FeatureSettings, settings_from_dict
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.throughput import ModelFlops, peak_flops
from aalbert.train.pretraining.build import (
    build_model,
    frame_shift_ms,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.estimate import device_name, time_steps
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.recipes import preset_names, read_recipe
from benchmarks.pretrain_reference import SAMPLE_RATE, Reference, read_waves

CPU_SECONDS_PER_STEP = 12.0
REFERENCE_STEPS = 3
MATMUL_SIZE = 2048


def main() -> None:
    """Measure the chosen presets and print a line for each preset and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="seconds of audio a step, for all presets")
    parser.add_argument("--presets", nargs="*", default=preset_names())
    arguments = parser.parse_args()
    device = best_device()
    seconds = arguments.seconds or (CPU_SECONDS_PER_STEP if device.type == "cpu" else None)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "LibriSpeech"
        write_librispeech(corpus, speakers=8, utterances_per_speaker=8, seed=1, seconds=(9.0, 16.0))
        for name in arguments.presets:
            measure(name, seconds, corpus, arguments.rounds, device)


def measure(
    name: str, seconds: float | None, corpus: Path, rounds: int, device: torch.device
) -> None:
    """Measure one preset in all ways, which take turns, and print the lines."""
    recipe = read_recipe(name)
    # The synthetic corpus has only a training split.
    config = replace(recipe, data=replace(recipe.data, splits=("train*",)))
    scaled = config if seconds is None else scale(config, seconds)
    data = corpus.parent / f"data-{name}"
    stored = PrepareConfig(features=features_of(config))
    prepare(read_librispeech(corpus), data, stored, PrepareLimits(engine=LocalEngine(workers=1)))
    work, audio = step_work(scaled, data)
    ways: dict[str, Callable[[], float]] = {
        "aalbert, float32": lambda: ours(replace(scaled, precision="32-true"), data),
        "reference, float32": lambda: reference(scaled, corpus, device, audio),
    }
    if device.type == "cuda":
        # A CPU without bfloat16 instructions is many times slower in it than in float32.
        ways["aalbert, bf16"] = lambda: ours(replace(scaled, precision="bf16-mixed"), data)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, once in ways.items():
            times[way].append(once())
    full = config.data.batch_seconds * config.batches_per_step
    for way, taken in times.items():
        median = statistics.median(taken)
        peak = peak_of(device, "32-true" if "float32" in way else "bf16-mixed")
        line = {
            "preset": name,
            "way": way,
            "seconds_of_audio": round(audio, 1),
            "preset_seconds_of_audio": full,
            "step_s": round(median, 4),
            "fastest_s": round(min(taken), 4),
            "slowest_s": round(max(taken), 4),
            "times_reference": round(statistics.median(times["reference, float32"]) / median, 2),
            "tera_flops": round(work / median / 1e12, 3),
            "mfu": None if peak is None else round(work / median / peak, 4),
            "device": device_name(device),
            "torch": version("torch"),
            "aalbert": version("aalbert"),
        }
        print(json.dumps(line), flush=True)


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


def features_of(config: PretrainConfig) -> tuple[FeatureSettings, ...]:
    """Return the features that a preset lists, or its only one with default settings."""
    named = config.data.features or {config.data.feature: {}}
    return tuple(settings_from_dict({"kind": kind, **made}) for kind, made in named.items())


def scale(config: PretrainConfig, seconds: float) -> PretrainConfig:
    """Return the settings with one batch of so many seconds of audio per step."""
    crop = min(config.data.crop_seconds, seconds)
    data = replace(config.data, batch_seconds=seconds, crop_seconds=crop, static_seconds=())
    return replace(config, data=data, batches_per_step=1)


def ours(config: PretrainConfig, data: Path) -> float:
    """Return the seconds of a step of `aalbert pretrain`."""
    selections = select_utterances(config, [Dataset(data)])
    seconds, _ = time_steps(
        config, Pretraining(build_model(config, selections), config), selections, Ranks()
    )
    return seconds


def step_work(config: PretrainConfig, data: Path) -> tuple[float, float]:
    """Return the operations of a step and its seconds of real audio, the means of an epoch."""
    selections = select_utterances(config, [Dataset(data)])
    training, _ = make_loaders(replace(config, data=replace(config.data, prefetch=0)), selections)
    flops = ModelFlops.of(build_model(config, selections))
    batches = [(batch.real_frames, batch.squared_frames) for batch in training]
    work = statistics.mean(flops.count(*sizes) for sizes in batches)
    audio = (
        statistics.mean(frames for frames, _ in batches) * frame_shift_ms(config, selections) / 1000
    )
    return work * config.batches_per_step, audio * config.batches_per_step


def reference(config: PretrainConfig, corpus: Path, device: torch.device, audio: float) -> float:
    """Return the seconds that the reference takes for `audio` seconds of audio."""
    files = sorted(corpus.rglob("*.flac"))
    crop = round(config.data.crop_seconds * SAMPLE_RATE)
    count = max(1, round(config.data.batch_seconds / min(config.data.crop_seconds, 12.0)))
    batches = [
        [files[(step * count + place) % len(files)] for place in range(count)]
        for step in range(REFERENCE_STEPS + 1)
    ]
    model = Reference(config).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    train(model, optimiser, batches[:1], crop, device, config.batches_per_step)
    started = time.perf_counter()
    heard = train(model, optimiser, batches[1:], crop, device, config.batches_per_step)
    return (time.perf_counter() - started) / heard * audio


def train(
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


if __name__ == "__main__":
    main()
