"""An epoch of head training with and without cached hidden states; prints JSON lines.

The encoder is an Audio ALBERT with 3 layers, of the published width of 768 or another, and random
weights, on which speed does not depend. Without the cache, every epoch runs the encoder on all
audio. Both runs read whole utterances in the same order, so that they train the same head. The
difference in time between a run of several epochs and one of a single epoch is the time of the
additional epochs, without start and caching. Times are processor times, and batches are read in the
process itself, so that other work on the machine is not measured. It prints a line per kind, then
the ratio.

    python -m benchmarks.cached_states --data data/voxceleb1
"""

import argparse
import json
import platform
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from aalbert.models import (
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    UpstreamConfig,
)
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.selection import best_measurement
from aalbert.train.run_folder import RunFolder

CONFIG = DownstreamConfig(
    crop_seconds=0, learning_rate=1e-2, head=HeadConfig(pooling="mean"), prefetch=0
)
HEAD_WIDTH = 64
KINDS = {"plain": False, "cached": True}


def main() -> None:
    """Measure both kinds and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset with train and dev")
    parser.add_argument("--epochs", type=int, default=3, help="epochs that are timed")
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_encoder(options.data, options.width, folder / "model")
        for number in range(options.rounds):
            measured = {
                kind: measure(options.data, folder, f"{kind}-{number}", options.epochs, cached)
                for kind, cached in KINDS.items()
            }
            for kind, (seconds, accuracy) in measured.items():
                print_line(
                    kind=kind, cpu_seconds_per_epoch=round(seconds, 4), dev_accuracy=accuracy
                )
            ratio = measured["plain"][0] / measured["cached"][0]
            print_line(
                kind="ratio", times_faster=round(ratio, 1), width=options.width, **surroundings()
            )


def save_encoder(data: Path, width: int, folder: Path) -> None:
    """Save an encoder of this width that reads the log-mel features of a dataset."""
    settings = Dataset(data).manifest.features["logmel"]
    torch.manual_seed(0)
    front_end = FrontEndConfig(feature_dims=settings.dims)
    encoder = EncoderConfig(width=width, heads=width // HEAD_WIDTH, feed_forward_width=4 * width)
    config = UpstreamConfig(features=asdict(settings), front_end=front_end, encoder=encoder)
    PretrainedModel(config).save_pretrained(folder)


def measure(data: Path, folder: Path, name: str, epochs: int, cached: bool) -> tuple[float, float]:
    """Return the seconds of an epoch, and the accuracy on dev after all epochs."""
    config = replace(CONFIG, cache_embeddings=cached)
    # A cached epoch is so short that many are needed to time one.
    counts = (1, 1 + epochs * (20 if cached else 1))
    seconds = []
    for count in counts:
        out = folder / f"{name}-{count}"
        started = time.process_time()
        start_downstream(
            replace(config, epochs=count), data, str(folder / "model"), out, states=folder / name
        )
        seconds.append(time.process_time() - started)
        if cached and count == 1:
            # The first run also filled the cache, which is not part of the time of an epoch.
            again = folder / f"{name}-again"
            started = time.process_time()
            start_downstream(
                replace(config, epochs=1), data, str(folder / "model"), again, states=folder / name
            )
            seconds[0] = time.process_time() - started
    rows = RunFolder(out).read_metrics()
    same_epochs = [row for row in rows if "dev_accuracy" in row][: 1 + epochs]
    accuracy = float(best_measurement(same_epochs)["dev_accuracy"])
    return (seconds[1] - seconds[0]) / (counts[1] - counts[0]), accuracy


def surroundings() -> dict[str, str | int]:
    """Return the software and hardware that the times depend on."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def print_line(**fields: object) -> None:
    """Print one line of JSON immediately."""
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
