"""Compare the speed of `aalbert prepare` with alternatives, on the same real FLAC files.

The alternatives are lhotse (`compute_and_store_features` into NumPy files) and a hand-written
script with soundfile, torchaudio and `webdataset.ShardWriter`. Every run is a separate process that
starts its own workers and writes to an empty folder, so all the time that a user waits is measured.
The corpus is prepared once and repeated several times (under new keys): the difference gives the
speed without the start, from which whole corpora are extrapolated.

    python -m benchmarks.prepare --corpus ../shared/data/LibriSpeech
"""

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("aalbert", "lhotse", "torch", "torchaudio", "webdataset"),
    *("soundfile", "miniaudio", "numpy"),
)
# Hours of speech of the whole corpora, from their papers.
CORPORA = {"LibriSpeech-960": 960.9, "VoxCeleb1": 352.0}
SYSTEMS = ("aalbert logmel", "script logmel", "aalbert fbank", "script fbank", "lhotse fbank")


def audio_paths(corpus: Path, times: int) -> list[tuple[str, Path]]:
    """Return key and path of every file of a corpus, repeated `times` times."""
    paths = sorted(corpus.rglob("*.flac"))
    return [(f"{path.stem}-{number}", path) for number in range(times) for path in paths]


def run_aalbert(corpus: Path, times: int, out: Path, workers: int, feature: str) -> None:
    """Prepare the corpus with this package."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.prepare.engine import LocalEngine
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.pipeline.prepare.recipe import load_recipe

    found = read_librispeech(corpus)
    utterances = tuple(
        dataclasses.replace(utterance, key=f"{utterance.key}-{number}")
        for number in range(times)
        for utterance in found.utterances
    )
    prepare(
        dataclasses.replace(found, utterances=utterances),
        out,
        load_recipe(features=(feature,)),
        PrepareLimits(engine=LocalEngine(workers=workers)),
    )


def run_script(corpus: Path, times: int, out: Path, workers: int, feature: str) -> None:
    """Prepare the corpus with a simple script that uses torchaudio and webdataset."""
    import multiprocessing

    files = audio_paths(corpus, times)
    tasks = [(files[worker::workers], out / str(worker), feature) for worker in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(write_plainly, tasks)


def write_plainly(files: list[tuple[str, Path]], folder: Path, feature: str) -> None:
    """Write the features of some files into shards."""
    import numpy as np
    import soundfile
    import torch
    import torchaudio
    import webdataset

    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=400, hop_length=160, n_mels=80)
    kaldi = torchaudio.compliance.kaldi.fbank
    with webdataset.ShardWriter(str(folder / "%06d.tar"), verbose=0) as writer:
        for key, path in files:
            samples, _ = soundfile.read(path, dtype="float32")
            wave = torch.from_numpy(samples)
            if feature == "logmel":
                features = torch.log(mel(wave) + 1e-10).T
            else:
                features = kaldi(wave[None], num_mel_bins=80, sample_frequency=16_000)
            writer.write(
                {
                    "__key__": key,
                    f"{feature}.npy": features.numpy().astype(np.float16),
                    "json": {"key": key, "samples": len(samples)},
                }
            )


def run_lhotse(corpus: Path, times: int, out: Path, workers: int, feature: str) -> None:
    """Prepare the corpus with lhotse, in its fastest format that stores plain arrays."""
    from lhotse import CutSet, Fbank, FbankConfig, NumpyFilesWriter, Recording, RecordingSet

    recordings = [
        Recording.from_file(path, recording_id=key) for key, path in audio_paths(corpus, times)
    ]
    cuts = CutSet.from_manifests(recordings=RecordingSet.from_recordings(recordings))
    cuts.compute_and_store_features(
        extractor=Fbank(FbankConfig(num_mel_bins=80)),
        storage_path=str(out),
        num_jobs=workers,
        storage_type=NumpyFilesWriter,
        progress_bar=False,
    )


RUNS: dict[str, Callable[[Path, int, Path, int, str], None]] = {
    "aalbert": run_aalbert,
    "script": run_script,
    "lhotse": run_lhotse,
}


def measure(system: str, corpus: Path, times: int, workers: int) -> tuple[float, float]:
    """Return the seconds of a run in its own process, and the MiB of its largest process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.prepare", "--run", system, "--out"]
        command += [f"{folder}/out", "--corpus", str(corpus), "--times", str(times)]
        command += ["--workers", str(workers)]
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{system} ended with {done.returncode}: {done.stderr}")
    return seconds, float(done.stdout.splitlines()[-1])


def run_here(arguments: argparse.Namespace) -> None:
    """Run one system and print the memory of its largest process in MiB."""
    name, feature = arguments.run.split()
    RUNS[name](arguments.corpus, arguments.times, arguments.out, arguments.workers, feature)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(max(usage.ru_maxrss for usage in usages) / 1024)


def shares(corpus: Path, feature: str) -> dict[str, float]:
    """Return the shares of decoding, computing and writing in the time of one worker.

    Decoding and computing are timed separately, and the rest of a whole run counts as writing;
    times are medians of five, after one to warm up.
    """
    from aalbert.kernel.native import keep_freed_memory
    from aalbert.pipeline.audio.decode import read_audio
    from aalbert.pipeline.audio.features import extract
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.prepare.output import LocalOutput
    from aalbert.pipeline.prepare.plan import make_plan
    from aalbert.pipeline.prepare.recipe import load_recipe
    from aalbert.pipeline.prepare.shard_task import run_task

    keep_freed_memory()
    found, config = read_librispeech(corpus), load_recipe(features=(feature,))
    tasks = make_plan(found, config)
    waves = [read_audio(item.path, 16_000).wave for item in found.utterances]

    def decode() -> None:
        for item in found.utterances:
            read_audio(item.path, 16_000)

    def compute() -> None:
        for wave in waves:
            extract(wave, config.features[0])

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for task in tasks:
                run_task(task, LocalOutput(folder=Path(folder)))

    decoding, computing, total = (median_seconds(work) for work in (decode, compute, run))
    return {
        "decoding": round(decoding / total, 3),
        "computing": round(computing / total, 3),
        "writing": round(1 - (decoding + computing) / total, 3),
        "x_real_time_of_one_worker": round(sum(map(len, waves)) / 16_000 / total),
    }


def median_seconds(work: Callable[[], None], repeats: int = 5) -> float:
    """Return the median time of some work, after it was done once to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure_all(
    corpus: Path, times: int, workers: int, repeats: int
) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Measure all systems in turn, on the corpus once and repeated several times."""
    taken: dict[str, dict[int, list[tuple[float, float]]]] = {
        system: {1: [], times: []} for system in SYSTEMS
    }
    for _ in range(repeats):
        for system in SYSTEMS:
            for each in (1, times):
                taken[system][each].append(measure(system, corpus, each, workers))
    return taken


def summarise(taken: dict[int, list[tuple[float, float]]], seconds: float) -> dict[str, Any]:
    """Return the medians of a system's runs: speed as a multiple of real time, and memory."""
    once, often = min(taken), max(taken)
    median = {each: statistics.median(run[0] for run in runs) for each, runs in taken.items()}
    return {
        "x_real_time": {
            f"{each} x corpus": round(each * seconds / median[each]) for each in (once, often)
        },
        "started_x_real_time": round((often - once) * seconds / (median[often] - median[once])),
        "start_s": round(median[once] - (median[often] - median[once]) / (often - once), 2),
        "seconds": {
            f"{each} x corpus": [round(run[0], 2) for run in runs] for each, runs in taken.items()
        },
        "largest_process_mib": round(max(run[1] for runs in taken.values() for run in runs)),
    }


def speeds(result: dict[str, Any]) -> dict[str, float]:
    """Return the three speeds of a system by name."""
    return {**result["x_real_time"], "started": result["started_x_real_time"]}


def ratios(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the speed of this package as a multiple of the faster peer's, for each feature."""
    found = {}
    for feature in ("logmel", "fbank"):
        peers = [f"{name} {feature}" for name in ("script", "lhotse")]
        for label, own in speeds(results[f"aalbert {feature}"]).items():
            fastest = max(speeds(results[peer])[label] for peer in peers if peer in results)
            found[f"{feature}, {label}"] = round(own / fastest, 2)
    return found


def main() -> None:
    """Measure all systems in turn, several times, and print the medians."""
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/data/LibriSpeech"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_here(arguments)
        return
    seconds = sum(soundfile.info(path).duration for _, path in audio_paths(arguments.corpus, 1))
    taken = measure_all(arguments.corpus, arguments.times, arguments.workers, arguments.repeats)
    results = {system: summarise(runs, seconds) for system, runs in taken.items()}
    for system, result in results.items():
        print(json.dumps({"system": system, **result}))
    print(json.dumps({"shares_of_time": {f: shares(arguments.corpus, f) for f in ("logmel",)}}))
    print(json.dumps({"times_the_faster_peer": ratios(results)}))
    rate = results["aalbert logmel"]["started_x_real_time"]
    extrapolated = {name: round(hours * 60 / rate, 1) for name, hours in CORPORA.items()}
    print(json.dumps({"extrapolated_minutes_not_measured": extrapolated}))
    print(
        json.dumps(
            {
                "audio_seconds": round(seconds),
                "workers": arguments.workers,
                "python": platform.python_version(),
                "versions": {name: version(name) for name in PACKAGES},
            }
        )
    )


if __name__ == "__main__":
    main()
