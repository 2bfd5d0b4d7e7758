"""The stage `steps`: a step of every preset at its own batch, in every way, and the reference's.

First come the preset `aalbert-3l`, packed batches of the others, and what is compiled of the first,
which takes most of a minute each. What there is no time for is written too. A rehearsal compiles
nothing, and takes the other presets packed only.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch

from aalbert.train.loop.throughput import peak_flops
from aalbert.train.loop.timing import peak_memory
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.config import PretrainConfig
from benchmarks.gpu.attempts import Attempts
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config, speech
from benchmarks.pretrain_steps import Step, matmul_flops, time_ours

FIRST = "aalbert-3l"
REFERENCE = "reference"
PAPER_STEPS = 500_000
# It keeps the attention of all heads and layers, for which there may be too little memory. Its
# speed is then that with a part of the batch.
BATCH_SHARES = (1.0, 0.5, 0.25, 0.125)
# A rehearsal takes as few steps as can be timed.
REHEARSAL_STEPS = {"warm_up_steps": 1, "timed_steps": 2}
# Not begun when less is left: a way that compiles, and one that does not.
LEAST_COMPILED_S, LEAST_S = 75.0, 8.0


@dataclass(frozen=True)
class Way:
    """A way to batch and to compute a step under bfloat16 autocast."""

    name: str
    batching: Literal["padded", "static", "packed"]
    compile: bool

    def of(self, config: PretrainConfig, *, rehearsal: bool) -> PretrainConfig:
        """Return the settings of a preset in this way; on a CPU in float32.

        Packed batches have no dropout of attention.
        """
        encoder = config.encoder
        if self.batching == "packed":
            encoder = replace(encoder, attention_dropout=0.0)
        lengths = config.data.static_seconds if self.batching == "static" else ()
        data = replace(config.data, batching=self.batching, static_seconds=lengths)
        return replace(
            config,
            encoder=encoder,
            data=data,
            compile=self.compile,
            precision="32-true" if rehearsal else "bf16-mixed",
        )


WAYS = (
    Way("packed", "packed", compile=False),
    Way("padded", "padded", compile=False),
    Way("static, compiled", "static", compile=True),
    Way("packed, compiled", "packed", compile=True),
)


def run(context: Context) -> None:
    """Measure as much as there is time for, in the order of worth."""
    attempts = Attempts(context)
    for preset, way in order(preset_names()):
        name = way.name if way else REFERENCE
        compiled = way is not None and way.compile and not context.rehearsal
        superfluous = context.rehearsal and preset != FIRST and name != "packed"
        if superfluous or context.left_s < (LEAST_COMPILED_S if compiled else LEAST_S):
            context.write(kind="left out", preset=preset, way=name)
            continue
        with attempts.attempt(preset=preset, way=name):
            config = read_preset_config(preset, context)
            line = measure(config, way, context) if way else measure_reference(config, context)
            context.write(kind="step", preset=preset, way=name, **line)
    attempts.end()
    if not context.read(context.stage, "step"):
        sys.exit("there was no time to measure a step")


def order(presets: list[str]) -> Iterator[tuple[str, Way | None]]:
    """Yield presets and ways in the order of worth; None is the reference's way."""
    first = [name for name in presets if name == FIRST]
    rest = [name for name in presets if name != FIRST]
    packed, padded, *compiled = WAYS
    for names, ways in (
        (first, (packed, padded, None)),
        (rest, (packed,)),
        (first, compiled),
        (rest, (padded, None)),
        (rest, compiled),
    ):
        yield from product(names, ways)


def measure(config: PretrainConfig, way: Way, context: Context) -> dict[str, object]:
    """Time a step of a preset in one of our ways."""
    config = way.of(config, rehearsal=context.rehearsal)
    data = data_for(config, context)
    device = torch.device(context.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.compiler.reset()
    step = time_ours(config, data, **(REHEARSAL_STEPS if context.rehearsal else {}))
    peak = matmul_flops() if context.rehearsal else peak_flops(device, config.precision)
    return {
        "precision": config.precision,
        **speed(step),
        "mfu": None if peak is None else round(step.operations / step.seconds / peak, 4),
        "tera_flops": round(step.operations / step.seconds / 1e12, 3),
        "waited": round(step.waited_s / step.seconds, 4),
        "padding": round(step.padding, 4),
        "memory_gib": round(peak_memory(device) / 2**30, 3),
        "extrapolated_hours_of_500000_steps": round(PAPER_STEPS * step.seconds / 3600, 2),
    }


def speed(step: Step) -> dict[str, object]:
    """Return the size of a step and its speed."""
    return {
        "step_s": round(step.seconds, 5),
        "audio_s": round(step.audio_s, 1),
        "tokens_per_s": round(step.tokens / step.seconds),
        "x_real_time": round(step.audio_s / step.seconds, 1),
    }


def measure_reference(config: PretrainConfig, context: Context) -> dict[str, object]:
    """Time the reference: features at every step, eager, padded, float32."""
    # It alone needs torchaudio and the synthetic speech.
    from benchmarks.pretrain_reference import time_reference

    device, steps = torch.device(context.device), 1 if context.rehearsal else 2
    audio_s = config.data.batch_seconds * config.batches_per_step
    for share in BATCH_SHARES:
        data = replace(config.data, batch_seconds=config.data.batch_seconds * share)
        own = replace(config, data=data)
        try:
            seconds = time_reference(own, speech(context), device, steps=steps)
        except torch.OutOfMemoryError as error:
            print(f"{share:g} of the reference's batch: {error}", flush=True)
            continue
        return {
            "precision": "32-true",
            "step_s": round(seconds * audio_s, 5),
            "audio_s": audio_s,
            "x_real_time": round(1 / seconds, 1),
            "batch_share": share,
        }
    raise MemoryError(f"no {BATCH_SHARES[-1]:g} of the reference's batch fits into memory")
