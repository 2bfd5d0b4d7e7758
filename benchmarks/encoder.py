"""Compare forward and backward of the encoder with an eager, padded float32 baseline.

AALBERT and Mockingjay of one depth, on one batch of utterances with lengths distributed like those
of LibriSpeech after stacking three frames. Our encoder runs padded and packed, in float32 and under
bfloat16 autocast, with and without `torch.compile`. The variants take turns; a line has the
median, fastest and slowest step, the median processor time of a step, which other programs
disturb less, the real frames per second, and the speed relative to the baseline by both clocks.
Before that, the hidden states are compared with those of the baseline.

    python -m benchmarks.encoder --layers 3 --utterances 8 --rounds 5
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from torch import Tensor, nn

from aalbert.models.device import best_device
from aalbert.models.encoder import Encoder
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.layout import Packed
from benchmarks.encoder_baseline import BaselineEncoder

INPUT_DIMS = 240
# Encoder frames of 30 ms: utterances of 2 to 16 s, most of them long.
SHORTEST, LONGEST = 66, 530
# Of hidden states; both sides differ from the exact values by as much.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Workload:
    """One batch of utterances, padded and packed."""

    padded: Tensor
    lengths: Tensor
    packed: Tensor
    layout: Packed

    @property
    def frames(self) -> int:
        """The number of real frames."""
        return len(self.packed)


def make_workload(utterances: int, device: torch.device) -> Workload:
    """Draw the utterances, the same ones for the same number."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(utterances, generator=generator).sqrt()
    lengths = (SHORTEST + spread * (LONGEST - SHORTEST)).long()
    parts = [torch.randn(int(length), INPUT_DIMS, generator=generator) for length in lengths]
    offsets = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    padded = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    layout = Packed(offsets.to(device), longest=int(lengths.max()))
    return Workload(padded.to(device), lengths.to(device), torch.cat(parts).to(device), layout)


@dataclass(frozen=True)
class Variant:
    """A way to compute the same step."""

    name: str
    encode: Callable[[], list[Tensor]]
    precision: str
    module: nn.Module

    def step(self) -> list[Tensor]:
        """Run forward and backward, and return the hidden states."""
        self.module.zero_grad()
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            states = self.encode()
        torch.autograd.backward(states[-1].float().square().mean())
        if device == "cuda":
            torch.cuda.synchronize()
        return states


def make_variants(
    config: EncoderConfig, work: Workload, compiled: bool, precisions: list[str]
) -> list[Variant]:
    """Return the baseline and our variants, with equal weights."""
    torch.manual_seed(0)
    ours = Encoder(config, INPUT_DIMS).to(work.padded.device)
    baseline = BaselineEncoder(ours).to(work.padded.device)
    variants = [
        Variant(
            "baseline, padded, float32",
            lambda: baseline(work.padded, work.lengths),
            "float32",
            baseline,
        )
    ]
    ways: list[tuple[str, Callable[..., list[Tensor]]]] = [("eager", ours)]
    if compiled:
        ways.append(("compiled", torch.compile(ours)))
    inputs: list[tuple[str, tuple[Tensor, Tensor | Packed]]] = [
        ("padded", (work.padded, work.lengths)),
        ("packed", (work.packed, work.layout)),
    ]
    for precision, (way, run), (lay, batch) in itertools.product(precisions, ways, inputs):
        name = f"ours, {lay}, {precision}, {way}"

        def encode(
            run: Callable[..., list[Tensor]] = run,
            batch: tuple[Tensor, Tensor | Packed] = batch,
        ) -> list[Tensor]:
            return run(*batch)

        variants.append(Variant(name, encode, precision, ours))
    return variants


def check(variants: list[Variant], work: Workload) -> None:
    """Assert that every variant computes the same as the baseline; this also compiles."""
    expected = variants[0].step()[-1].detach()
    lengths = work.lengths.tolist()
    reference = torch.cat([row[:n] for row, n in zip(expected, lengths, strict=True)])
    for variant in variants:
        last = variant.step()[-1].detach().float()
        if last.dim() == 3:
            last = torch.cat([row[:n] for row, n in zip(last, lengths, strict=True)])
        difference = float((last - reference).norm() / reference.norm())
        assert difference < TOLERANCES[variant.precision], (variant.name, difference)


@dataclass
class Taken:
    """The times of every step of a variant, in milliseconds by both clocks."""

    wall_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    def over(self, other: "Taken") -> list[float]:
        """Return the medians of another variant divided by ours."""
        pairs = ((other.wall_ms, self.wall_ms), (other.processor_ms, self.processor_ms))
        return [round(statistics.median(a) / statistics.median(b), 2) for a, b in pairs]


def measure(variants: list[Variant], rounds: int) -> dict[str, Taken]:
    """Time every step; the variants take turns."""
    times = {variant.name: Taken() for variant in variants}
    for _, variant in itertools.product(range(rounds), variants):
        begun, worked = time.perf_counter(), time.process_time()
        variant.step()
        times[variant.name].wall_ms.append(1000 * (time.perf_counter() - begun))
        times[variant.name].processor_ms.append(1000 * (time.process_time() - worked))
    return times


def main() -> None:
    """Print a JSON line for every variant of both systems, and one about the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--precisions", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    options = parser.parse_args()
    device = best_device()
    work = make_workload(options.utterances, device)
    for system, shared in (("aalbert", True), ("mockingjay", False)):
        torch.compiler.reset()
        config = EncoderConfig(layers=options.layers, share_layers=shared, dropout=0.0)
        variants = make_variants(config, work, not options.no_compile, options.precisions)
        check(variants, work)
        times = measure(variants, options.rounds)
        for name, taken in times.items():
            median = statistics.median(taken.wall_ms)
            line = {
                "system": system,
                "layers": options.layers,
                "variant": name,
                "ms": [round(value) for value in (median, min(taken.wall_ms), max(taken.wall_ms))],
                "processor_ms": round(statistics.median(taken.processor_ms)),
                "frames_per_second": round(1000 * work.frames / median),
                "times_the_baseline": taken.over(times[variants[0].name]),
            }
            print(json.dumps(line), flush=True)
    print(json.dumps(surroundings(work, device)))


def surroundings(work: Workload, device: torch.device) -> dict[str, object]:
    """Return the workload, software and hardware that the results depend on."""
    return {
        "utterances": len(work.lengths),
        "real_frames": work.frames,
        "padding": round(1 - work.frames / (work.padded.shape[0] * work.padded.shape[1]), 3),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


if __name__ == "__main__":
    main()
