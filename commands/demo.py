"""The command `aalbert demo`: two synthetic corpora through the code of the other commands."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aalbert.errors import OutputInUseError

# Marks a folder that the demo made and may replace.
MARKER = ".aalbert-demo"
SEED = 1
# Name, first reader and number of readers: no voice is in two of them.
LIBRISPEECH_SUBSETS = (
    ("train-clean-100", 1000, 40),
    ("dev-clean", 2000, 6),
    ("test-clean", 3000, 12),
)
# Less than the presets, so that the demo ends within minutes.
DEMO_SETTINGS = ("steps=1800", "data.batch_seconds=16")
PHONE_SETTINGS = (
    "splits.dev=dev-clean",
    "splits.test=test-clean",
    "epochs=5",
    "learning_rate=3e-3",
)
SPEAKER_SETTINGS = ("epochs=30",)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
) -> None:
    """Synthesise two small corpora and run the whole path on them, in about three minutes.

    Example: aalbert demo
    """
    from aalbert.train.pretraining.run import start_pretraining
    from aalbert.train.recipes import read_pretrain_recipe

    claim(out)
    with step("synthesise two corpora of voices"):
        synthesise(out / "corpora")
    with step("prepare: features into shards"):
        prepare_both(out)
    with step("pretrain: reconstruct masked frames"):
        settings = read_pretrain_recipe("tiny", assignments=DEMO_SETTINGS, environment={})
        start_pretraining(settings, [out / "data/librispeech"], out / "runs/pretrain")
    labels = f"labels.alignments={out / 'corpora/LibriSpeech/alignments.txt'}"
    with step("downstream: phones, with three upstreams"):
        phones = train_heads(out, "librispeech-phone", "librispeech", (labels, *PHONE_SETTINGS))
    with step("evaluate"):
        evaluate(phones)
    with step("downstream: speakers, with three upstreams"):
        speakers = train_heads(out, "voxceleb1", "voxceleb1", SPEAKER_SETTINGS)
    with step("evaluate"):
        evaluate(speakers)


def claim(out: Path) -> None:
    """Make an empty folder, in place of an older demo if there is one."""
    if (out / MARKER).is_file():
        shutil.rmtree(out)
    if out.exists() and any(out.iterdir()):
        raise OutputInUseError(f"{out} is not empty and not an older demo: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step on stderr, and afterwards its duration."""
    print(f"== {title}", file=sys.stderr)
    started = time.monotonic()
    yield
    print(f"   {time.monotonic() - started:.1f} s", file=sys.stderr)


def synthesise(corpora: Path) -> None:
    """Write a corpus in the layout of LibriSpeech and one in that of VoxCeleb1."""
    from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1

    for subset, first_speaker, speakers in LIBRISPEECH_SUBSETS:
        write_librispeech(
            corpora / "LibriSpeech",
            speakers=speakers,
            utterances_per_speaker=6,
            seed=SEED,
            subset=subset,
            first_speaker=first_speaker,
        )
    write_voxceleb1(
        corpora / "VoxCeleb1", speakers=20, videos_per_speaker=4, utterances_per_video=4, seed=SEED
    )


def prepare_both(out: Path) -> None:
    """Prepare both corpora with the default features."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
    from aalbert.pipeline.prepare.config import PrepareConfig
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.shards.format.feature_settings import LogMelSettings

    config, limits = PrepareConfig(features=(LogMelSettings(),)), PrepareLimits()
    for corpus in (
        read_librispeech(out / "corpora/LibriSpeech"),
        read_voxceleb1(out / "corpora/VoxCeleb1"),
    ):
        prepare(corpus, out / "data" / corpus.name, config, limits)


def train_heads(out: Path, task: str, data: str, settings: tuple[str, ...]) -> list[Path]:
    """Train a head on the pretrained encoder, on the same encoder untrained, and on features."""
    from aalbert.train.downstream.run import start_downstream
    from aalbert.train.recipes import read_task_recipe

    pretrained = str(out / "runs/pretrain")
    upstreams = {
        "pretrained": (pretrained, "untrained=false"),
        "untrained": (pretrained, "untrained=true"),
        # The three frames that the encoder reads as one.
        "logmel": ("logmel", "baseline.frames_stacked=3"),
    }
    runs = []
    for name, (upstream, setting) in upstreams.items():
        config = read_task_recipe(task, assignments=(*settings, setting), environment={})
        runs.append(out / "runs" / f"{task}-{name}")
        start_downstream(config, out / "data" / data, upstream, runs[-1])
    return runs


def evaluate(runs: list[Path]) -> None:
    """Write the reports of the runs of a task, and print their table."""
    from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_runs
    from aalbert.train.evaluation.report import write_reports
    from aalbert.train.evaluation.tables import text_tables

    evaluations = evaluate_runs(runs)
    comparisons = compare_evaluations(evaluations)
    write_reports(evaluations, comparisons)
    print(text_tables([evaluation.result for evaluation in evaluations], comparisons))
    print(f"report: {evaluations[0].run.report.resolve()}")
