"""Measure training, evaluation and its report where there are thousands of speakers to tell apart.

VoxCeleb1 has 1,251 and VoxCeleb2 5,994. Four parts of a recording are each speaker's utterances,
and a head on an encoder as large as `tiny`, with random weights, is trained on them; its dev part
is measured after every epoch. Prints the seconds of each stage, the peak memory of the process
after it, and the size of the report.

    python -m benchmarks.many_classes --out DIR --speakers 5994
"""

import argparse
import json
import resource
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import UpstreamConfig
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.prepare import prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.evaluation.report import write_reports
from aalbert.train.recipes import read_pretrain_recipe, read_task_recipe

EPOCHS = 2
SAMPLE_RATE = 16_000


def main() -> None:
    """Print one line of JSON a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--speakers", type=int, default=5_994)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    data, run = make_data(options.out, options.speakers), options.out / "run"
    upstream = make_encoder(options.out / "encoder")
    config = read_task_recipe("voxceleb1", environment={}, assignments=[f"epochs={EPOCHS}"])
    started = time.perf_counter()
    start_downstream(config, data, str(upstream), run)
    tell("training", options.speakers, started, epochs=EPOCHS)
    started = time.perf_counter()
    (evaluation,) = evaluate_runs([run])
    write_reports([evaluation], [])
    tell(
        "evaluation and report",
        options.speakers,
        started,
        utterances=evaluation.result.counts["utterances"],
        report_mb=round(evaluation.measured.folder.report.stat().st_size / 1e6, 2),
        metrics_mb=round(evaluation.measured.folder.metrics.stat().st_size / 1e6, 2),
    )


def make_data(out: Path, speakers: int) -> Path:
    """Prepare two utterances to train on, one for dev and one to test of every speaker."""
    generator = np.random.default_rng(0)
    soundfile.write(out / "noise.wav", generator.normal(0, 0.1, 60 * SAMPLE_RATE), SAMPLE_RATE)
    with (out / "manifest.csv").open("w", encoding="utf-8") as table:
        table.write("path,key,speaker,split,start,end\n")
        for speaker in range(speakers):
            for number, split in enumerate(("train", "train", "dev", "test")):
                start = round(generator.uniform(0, 59), 3)
                key = f"speaker{speaker}-{number}"
                table.write(f"noise.wav,{key},speaker{speaker},{split},{start},{start + 0.4:.3f}\n")
    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(read_manifest_file(out / "manifest.csv"), out / "data", config)
    return out / "data"


def make_encoder(folder: Path) -> Path:
    """Save an encoder as large as `tiny` with random weights."""
    recipe = read_pretrain_recipe(
        "tiny", environment={}, assignments=["front_end.normalisation=none"]
    )
    front_end = replace(recipe.front_end, feature_dims=LogMelSettings().dims)
    torch.manual_seed(0)
    config = UpstreamConfig(
        features=asdict(LogMelSettings()), front_end=front_end, encoder=recipe.encoder
    )
    PretrainedModel(config).save_pretrained(folder)
    return folder


def tell(stage: str, speakers: int, started: float, **more: object) -> None:
    """Print the figures of a stage that began at `started`."""
    figures = {
        "stage": stage,
        "speakers": speakers,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps({**figures, **more}), flush=True)


if __name__ == "__main__":
    main()
