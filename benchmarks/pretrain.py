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
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from aalbert.models.device import best_device
from aalbert.train.loop.timing import device_name
from aalbert.train.preset import preset_names
from aalbert.train.recipes import read_recipe
from benchmarks.pretrain_data import prepare_for
from benchmarks.pretrain_reference import time_reference
from benchmarks.pretrain_steps import Step, peak_of, scale, time_ours
from benchmarks.synthetic_speech import write_speech

CPU_SECONDS_PER_STEP = 12.0
Precision = Literal["32-true", "bf16-mixed"]


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
        write_speech(corpus)
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
    prepare_for(config, corpus, data)
    # A CPU without bfloat16 instructions is many times slower in it than in float32.
    precisions: tuple[Precision, ...] = (
        ("32-true", "bf16-mixed") if device.type == "cuda" else ("32-true",)
    )
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    references: list[float] = []
    for _ in range(rounds):
        for precision in precisions:
            steps[precision].append(time_ours(replace(scaled, precision=precision), data))
        references.append(time_reference(scaled, corpus, device))
    step = steps["32-true"][0]
    of_reference = [seconds * step.audio_s for seconds in references]
    ways = {("aalbert", each): [step.seconds for step in taken] for each, taken in steps.items()}
    ways["reference", "32-true"] = of_reference
    for (way, kind), taken in ways.items():
        median = statistics.median(taken)
        peak = peak_of(device, kind)
        line = {
            "preset": name,
            "way": f"{way}, {'float32' if kind == '32-true' else 'bf16'}",
            "seconds_of_audio": round(step.audio_s, 1),
            "preset_seconds_of_audio": config.data.batch_seconds * config.batches_per_step,
            "step_s": round(median, 4),
            "fastest_s": round(min(taken), 4),
            "slowest_s": round(max(taken), 4),
            "times_reference": round(statistics.median(of_reference) / median, 2),
            "tera_flops": round(step.operations / median / 1e12, 3),
            "mfu": None if peak is None else round(step.operations / median / peak, 4),
            "device": device_name(device),
            "torch": version("torch"),
            "aalbert": version("aalbert"),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
