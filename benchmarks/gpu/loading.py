"""The stage `loading`: batches from shards to the device, beside those of a `DataLoader`.

Our loader reads the shards and copies from pinned slots. The `DataLoader` has all features in
memory already, collates them in its workers and pins them in its thread, which is to its advantage.
Batches are of 12,000 frames; epochs are repeated, so the data are in memory.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.reading.dataset import Dataset
from benchmarks.gpu.attempts import Attempts
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config
from benchmarks.gpu.machine import wait_for
from benchmarks.loader_batches import FRAMES_PER_BATCH, PREFETCH, Batches, Picked, Plan
from benchmarks.loader_data import FEATURE, FRAME_SHIFT_S, read_all

PRESET = "aalbert-3l"
MEASURED_S = {"cuda": 1.5, "cpu": 0.3}
# Reader processes of our loader, workers of the other.
READERS, WORKERS = (1, 2), {"cuda": (4, 8), "cpu": (1,)}


def run(context: Context) -> None:
    """Measure both loaders, padded and packed."""
    data = data_for(read_preset_config(PRESET, context), context)
    device = torch.device(context.device)
    # Slots are pinned when a GPU is in use.
    torch.zeros(1, device=device)
    attempts = Attempts(context)
    for packed in (False, True):
        layout = "packed" if packed else "padded"
        for readers in READERS:
            with attempts.attempt(loader="aalbert", layout=layout):
                loader = open_ours(data, packed, readers)
                measured = measure(repeat(loader), context)
                loader.close()
                write(context, "aalbert", layout, readers, measured)
        arrays = list(read_all(data))
        frames = np.array([len(array) for array in arrays])
        for workers in WORKERS[context.device]:
            with attempts.attempt(loader="DataLoader", layout=layout):
                batches = Batches(
                    Picked(arrays.__getitem__, packed),
                    workers,
                    Plan(frames, packed),
                    pinned=device.type == "cuda",
                )
                write(context, "DataLoader", layout, workers, measure(repeat(batches), context))
                del batches
    attempts.end()


def open_ours(data: Path, packed: bool, readers: int) -> Loader:
    """Return our loader of all utterances."""
    order = OrderConfig(frames_per_batch=FRAMES_PER_BATCH, packed=packed)
    config = LoaderConfig(order=order, feature=FEATURE, prefetch=PREFETCH, readers=readers)
    return Loader(Dataset(data).select(["*"]), config)


def repeat(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield epochs without end."""
    while True:
        yield from batches


def measure(batches: Iterator[Any], context: Context) -> dict[str, float]:
    """Copy batches to the device for some seconds; return bytes and real frames per second.

    A first epoch's worth of batches warms up.
    """
    device = torch.device(context.device)
    count = frames = 0
    limit = MEASURED_S[context.device]
    for warm in (True, False):
        count = frames = 0
        started = time.perf_counter()
        while time.perf_counter() - started < (limit / 3 if warm else limit):
            batch = next(batches)
            count += batch.features.nbytes
            frames += int(batch.lengths.sum())
            if hasattr(batch, "to"):
                batch.to(device)
            else:
                # Its lengths are not pinned, and a copy of them would wait for the device.
                batch.features.to(device, non_blocking=True)
        wait_for(device)
    seconds = time.perf_counter() - started
    return {"bytes_per_s": count / seconds, "frames_per_s": frames / seconds}


def write(
    context: Context, loader: str, layout: str, processes: int, measured: dict[str, float]
) -> None:
    """Write the speed of one loader."""
    context.write(
        kind="loader",
        loader=loader,
        layout=layout,
        processes=processes,
        gb_per_s=round(measured["bytes_per_s"] / 1e9, 3),
        x_real_time=round(measured["frames_per_s"] * FRAME_SHIFT_S),
    )
