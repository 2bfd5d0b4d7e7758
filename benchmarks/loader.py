"""Compare the speed of our loader with that of other loaders, on the same real features.

The peers are webdataset (alone, and with our `webdataset_pipeline`), WIDS, MosaicML Streaming,
LitData and lhotse's Shar; `loader_peers` shows how each of them is used. All deliver shuffled
utterances as float16 tensors: padded, `(batch, frames, dims)`, of utterances of similar length, or
packed, `(frames, dims)`. Our loader compares checksums in the first epoch, which is the warm-up
here, or always; no peer compares any. A list of arrays in memory, which are only converted to
tensors, shows the time that no loader is responsible for: the slowness of Python after a busy step.
Before anything is timed, each loader must deliver an epoch of exactly the stored bytes, each
utterance once; the numbers are checked again in every timed epoch. Medians are printed at the end;
each measurement is printed to standard error when it is done.

Every measurement is a process of its own, and the loaders take turns: one epoch to warm up, then
whole epochs, first with a main thread that only takes batches, then with one that after each batch
holds the interpreter for `--busy-ms` in a Python loop, like a training loop that is not waiting
for its device. The data are in the page cache (`--work` is in memory by default).

- `start_s`: the time from opening the loader, with the import of its library, to the first batch;
  not part of the speeds.
- `waited`: the share of the time spent waiting for batches.
- `memory_mib`: the proportional set size of the process and its children, half-way through an
  epoch, without mapped files (data, libraries): the memory used beyond the page cache. Shared
  segments are included, except those that are being passed between processes and mapped by none.

    python -m benchmarks.loader --corpus ../shared/data/LibriSpeech
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.loader_batches import DIMS
from benchmarks.loader_data import FRAME_SHIFT_S, digest, prepare_copies, write_everything
from benchmarks.loader_peers import CONTROL, OPENERS, Setting

PACKAGES = (
    *("aalbert", "webdataset", "wids", "mosaicml-streaming", "litdata", "lhotse"),
    *("torch", "numpy", "pyarrow", "xxhash"),
)
OWN = ("aalbert", "aalbert, verify always")
LAYOUTS = ("padded", "packed")
MAIN_THREADS = ("idle", "busy")
BYTES_PER_FRAME = 2 * DIMS
# Timed epochs are repeated for at least so many seconds.
LEAST_S = 1.0


class Run(NamedTuple):
    """A loader with a layout and a number of worker processes."""

    loader: str
    layout: str
    workers: int


def all_runs(loaders: Iterable[str], workers: Iterable[int]) -> list[Run]:
    """Return the runs of these loaders; the list of arrays has no workers."""
    runs = [Run(*one) for one in product(loaders, LAYOUTS, workers)]
    return [run for run in runs if run.loader != CONTROL or run.workers == 0]


# In the process of a run.


def run_here(run: Run, dataset: Path, work: Path, busy_ms: float, check: bool) -> dict[str, Any]:
    """Check the batches of a loader, or measure it."""
    torch.set_num_threads(1)
    expected = json.loads((work / "expected.json").read_text())
    setting = Setting(
        dataset=dataset, work=work, packed=run.layout == "packed", workers=run.workers
    )
    started = time.perf_counter()
    batches = OPENERS[run.loader](setting)
    if check:
        return check_epoch(batches, setting.packed, expected)
    warming = iter(batches)
    next(warming)
    start_s = time.perf_counter() - started
    count = 1 + sum(1 for _ in warming)
    return {
        "start_s": start_s,
        "idle": time_epochs(batches, 0, expected),
        "busy": time_epochs(batches, busy_ms / 1000, expected),
        "memory_mib": measure_memory(batches, count // 2, (dataset, work)),
    }


def check_epoch(batches: Iterable[Any], packed: bool, expected: dict[str, int]) -> dict[str, Any]:
    """Compare an epoch with the stored data; return its number of batches and share of padding."""
    found = {"utterances": 0, "frames": 0, "digest": 0}
    size = count = 0
    for batch in batches:
        count += 1
        for features in utterances_of(batch, packed):
            found["utterances"] += 1
            found["frames"] += len(features)
            found["digest"] = (found["digest"] + digest(features)) % 2**64
        size += batch.features.nbytes // BYTES_PER_FRAME
    if found != expected:
        raise ValueError(f"an epoch held {found}, not {expected}")
    return {"batches": count, "padding": round(1 - found["frames"] / size, 4)}


def utterances_of(batch: Any, packed: bool) -> Iterator[Any]:
    """Yield the features of every utterance in a batch; `ValueError` if the padding is not zero."""
    features, lengths = batch.features.numpy(), batch.lengths.tolist()
    start = 0
    for number, length in enumerate(lengths):
        if packed:
            yield features[start : start + length]
            start += length
            continue
        yield features[number, :length]
        if features[number, length:].any():
            raise ValueError("the padding is not zero")
    if packed and start != len(features):
        raise ValueError(f"{start} frames of {len(features)} belong to utterances")


def time_epochs(
    batches: Iterable[Any], busy_s: float, expected: dict[str, int]
) -> dict[str, float]:
    """Time whole epochs; return utterances per second, and the share of the time spent waiting."""
    utterances = frames = epochs = 0
    waited = 0.0
    started = now = time.perf_counter()
    while now - started < LEAST_S:
        epochs += 1
        asked = now
        for batch in batches:
            waited += time.perf_counter() - asked
            utterances += len(batch.lengths)
            frames += int(batch.lengths.sum())
            hold_interpreter(busy_s)
            asked = time.perf_counter()
        now = time.perf_counter()
        waited += now - asked
    if (utterances, frames) != (epochs * expected["utterances"], epochs * expected["frames"]):
        raise ValueError(f"{epochs} epochs held {utterances} utterances, {frames} frames")
    return {"samples_per_s": utterances / (now - started), "waited": waited / (now - started)}


def hold_interpreter(seconds: float) -> None:
    """Keep this thread busy in Python."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def measure_memory(batches: Iterable[Any], place: int, data: tuple[Path, ...]) -> float:
    """Return the memory of the process tree at one batch of an epoch, in MiB."""
    held = 0.0
    for number, _ in enumerate(batches):
        if number == place:
            held = sum(held_beyond_files(process, data) for process in process_tree())
    return held


def process_tree() -> list[int]:
    """Return this process and all its descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    tree = [os.getpid()]
    for process in tree:
        tree += [child for child, parent in parents.items() if parent == process]
    return tree


def held_beyond_files(process: int, data: tuple[Path, ...]) -> float:
    """Return the proportional set size of a process without mapped files, in MiB."""
    held, counts = 0, True
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            path = (line.split(maxsplit=5) + [""])[5]
            shared = path.startswith(("/dev/shm/", "/memfd:")) or path.endswith("(deleted)")
            of_data = any(path.startswith(f"{folder.resolve()}/") for folder in data)
            counts = not path.startswith("/") or (shared and not of_data)
        elif first == "Pss:" and counts:
            held += int(line.split()[1])
    return held / 1024


# In the process that was started.


def start_run(run: Run, dataset: Path, work: Path, *options: str) -> dict[str, Any]:
    """Run a loader in a new process and return the document that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.loader", "--run", run.loader, run.layout]
    command += [str(run.workers), "--dataset", str(dataset), "--work", str(work), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{run} ended with {done.returncode}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summarise(measured: list[dict[str, Any]], expected: dict[str, int]) -> dict[str, Any]:
    """Return the medians of the measurements of one run."""
    frames = expected["frames"] / expected["utterances"]

    result: dict[str, Any] = {}
    for main in MAIN_THREADS:
        speeds = [one[main]["samples_per_s"] for one in measured]
        speed = statistics.median(speeds)
        result[main] = {
            "samples_per_s": round(speed),
            "mb_per_s": round(speed * frames * BYTES_PER_FRAME / 1e6),
            "x_real_time": round(speed * frames * FRAME_SHIFT_S),
            "waited": round(statistics.median(one[main]["waited"] for one in measured), 3),
            "all_samples_per_s": [round(each) for each in speeds],
        }
    result["start_s"] = round(statistics.median(one["start_s"] for one in measured), 2)
    result["memory_mib"] = round(statistics.median(one["memory_mib"] for one in measured))
    return result


def ratios(results: dict[Run, dict[str, Any]]) -> dict[str, Any]:
    """Return the speed of our loader as a multiple of the fastest peer's, and the peer's name.

    The best runs of each are compared, and also those without and those with workers.
    """
    found = {}
    ways = {"best": (0, 1, 2), "no workers": (0,), "workers": (1, 2)}
    for layout, main, way in product(LAYOUTS, MAIN_THREADS, ways):
        speeds = {
            run: result[main]["samples_per_s"]
            for run, result in results.items()
            if run.layout == layout and run.workers in ways[way]
        }
        ranked = sorted(speeds, key=speeds.__getitem__, reverse=True)
        own = next((run for run in ranked if run.loader == OWN[0]), None)
        peer = next((run for run in ranked if run.loader not in (*OWN, CONTROL)), None)
        if own and peer:
            found[f"{layout}, {main}, {way}"] = {
                "times": round(speeds[own] / speeds[peer], 2),
                "peer": f"{peer.loader}, {peer.workers} workers",
                "waited": [results[run][main]["waited"] for run in (own, peer)],
            }
    return found


def compare(arguments: argparse.Namespace, work: Path) -> None:
    """Write the data, check all loaders, measure them in turn and print the medians."""
    dataset = arguments.dataset or work / "dataset"
    if not arguments.dataset:
        prepare_copies(arguments.corpus, arguments.times, dataset)
    write_everything(dataset, work)
    expected = json.loads((work / "expected.json").read_text())
    runs = all_runs(arguments.loaders, arguments.workers)
    checked = {run: start_run(run, dataset, work, "--check") for run in runs}
    measured: dict[Run, list[dict[str, Any]]] = {run: [] for run in runs}
    busy = ("--busy-ms", str(arguments.busy_ms))
    for _ in range(arguments.repeats):
        for run in runs:
            measured[run].append(start_run(run, dataset, work, *busy))
            print(json.dumps({**run._asdict(), **measured[run][-1]}), file=sys.stderr, flush=True)
    results = {run: summarise(each, expected) for run, each in measured.items()}
    for run, result in results.items():
        print(json.dumps({**run._asdict(), **checked[run], **result}))
    print(json.dumps({"times_the_fastest_peer": ratios(results)}))
    about = {
        "utterances": expected["utterances"],
        "mb": round(expected["frames"] * BYTES_PER_FRAME / 1e6),
        "busy_ms": arguments.busy_ms,
        "repeats": arguments.repeats,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(about))


def main() -> None:
    """Measure all loaders, or one in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/data/LibriSpeech"))
    parser.add_argument("--times", type=int, default=8, help="how often the corpus is repeated")
    parser.add_argument("--dataset", type=Path, help="a dataset with logmel, instead of --corpus")
    parser.add_argument("--work", type=Path, help="an empty folder for 4 copies of the data")
    parser.add_argument("--loaders", nargs="+", default=list(OPENERS), choices=list(OPENERS))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--busy-ms", type=float, default=5.0)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        loader, layout, workers = arguments.run
        run = Run(loader, layout, int(workers))
        found = run_here(run, arguments.dataset, arguments.work, arguments.busy_ms, arguments.check)
        print(json.dumps(found))
    elif arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        compare(arguments, arguments.work)
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
            compare(arguments, Path(work))


if __name__ == "__main__":
    main()
