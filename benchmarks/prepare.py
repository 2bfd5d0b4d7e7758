"""Measure `aalbert prepare` beside the script that people write instead, on the same real FLAC.

The plain script decodes with soundfile, computes torchaudio's mel spectrogram, and writes with
`webdataset.ShardWriter`, in as many processes. Every run starts its processes anew and writes
to a fresh folder. Prints one JSON line per measurement and one with the ratio of the medians.

    python -m benchmarks.prepare --corpus ../shared/data/LibriSpeech
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
import webdataset

from aalbert.pipeline.corpus import Corpus
from aalbert.pipeline.librispeech import read_librispeech
from aalbert.pipeline.plan import PrepareConfig
from aalbert.pipeline.pool import LocalEngine
from aalbert.pipeline.prepare import PrepareLimits, prepare
from aalbert.shards.settings import LogMelSettings

PACKAGES = ("aalbert", "torch", "torchaudio", "webdataset", "soundfile", "numpy")


def run_aalbert(corpus: Corpus, out: Path, workers: int) -> None:
    """Prepare the corpus with this package."""
    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(corpus, out, config, PrepareLimits(engine=LocalEngine(workers=workers)))


def run_plain(corpus: Corpus, out: Path, workers: int) -> None:
    """Prepare the corpus with a plain script of torchaudio and webdataset."""
    paths = [utterance.path for utterance in corpus.utterances]
    tasks = [(paths[worker::workers], out / str(worker)) for worker in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(write_plainly, tasks)


def write_plainly(paths: list[Path], folder: Path) -> None:
    """Write the features of some files into shards."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=400, hop_length=160, n_mels=80)
    with webdataset.ShardWriter(str(folder / "%06d.tar"), verbose=0) as writer:
        for path in paths:
            samples, _ = soundfile.read(path, dtype="float32")
            features = torch.log(mel(torch.from_numpy(samples)) + 1e-10).T.numpy()
            about = {"key": path.stem, "samples": len(samples)}
            writer.write(
                {"__key__": path.stem, "logmel.npy": features.astype(np.float16), "json": about}
            )


def measure(run: Callable[[Corpus, Path, int], None], corpus: Corpus, workers: int) -> float:
    """Return the seconds that one run takes, its processes' start included."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run(corpus, Path(folder) / "out", workers)
        return time.perf_counter() - started


def audio_seconds(corpus: Corpus) -> float:
    """Return the length of a corpus."""
    return float(sum(soundfile.info(item.path).duration for item in corpus.utterances))


def main() -> None:
    """Measure both in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/data/LibriSpeech"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    corpus = read_librispeech(arguments.corpus)
    seconds = audio_seconds(corpus)
    runs = {"aalbert": run_aalbert, "plain": run_plain}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            taken[name].append(measure(run, corpus, arguments.workers))
    for name, times in taken.items():
        rates = sorted(round(seconds / value) for value in times)
        print(json.dumps({"system": name, "x_real_time": statistics.median(rates), "runs": rates}))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(
        json.dumps(
            {
                "speed_over_plain": round(medians["plain"] / medians["aalbert"], 2),
                "audio_seconds": round(seconds),
                "workers": arguments.workers,
                "python": platform.python_version(),
                "versions": {name: version(name) for name in PACKAGES},
            }
        )
    )


if __name__ == "__main__":
    main()
