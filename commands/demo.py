"""The command `aalbert demo`: a synthetic corpus through the code of the other commands."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aalbert.commands.threads import use_threads
from aalbert.errors import OutputInUseError

# Marks a folder that the demo made and may replace.
MARKER = ".aalbert-demo"
SEED = 1
# Name, first reader and number of readers: no voice is in two of them.
SUBSETS = (
    ("train-clean-100", 1000, 40),
    ("dev-clean", 2000, 3),
    ("test-clean", 3000, 10),
)
# Less than the presets, so that the demo ends within minutes.
DEMO_SETTINGS = ("steps=1800", "data.batch_seconds=16", "validate_every_steps=180")
PHONE_SETTINGS = (
    "splits.dev=dev-clean",
    "splits.test=test-clean",
    "epochs=5",
    "learning_rate=3e-3",
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
) -> None:
    """Synthesise a small corpus and run the whole path on it: some minutes on two cores.

    Example: aalbert demo
    """
    from aalbert.train.pretraining.run import start_pretraining
    from aalbert.train.recipes import read_pretrain_recipe

    claim(out)
    use_threads(None)
    with step("synthesise a corpus of voices"):
        synthesise(out / "LibriSpeech")
    with step("prepare: features into shards"):
        prepare_features(out)
    with step("pretrain: reconstruct masked frames"):
        settings = read_pretrain_recipe("tiny", assignments=DEMO_SETTINGS, environment={})
        start_pretraining(settings, [out / "data"], out / "runs/pretrain")
    with step("downstream: phones, with three upstreams"):
        runs = train_heads(out)
    with step("evaluate"):
        evaluate(runs)


def claim(out: Path) -> None:
    """Make an empty folder, in place of an older demo if there is one."""
    from aalbert.common.files import holds_something

    if (out / MARKER).is_file():
        shutil.rmtree(out)
    if holds_something(out):
        raise OutputInUseError(f"{out} is not empty and not an older demo: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch(exist_ok=False)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step on stderr, and afterwards its duration."""
    print(f"== {title}", file=sys.stderr)
    started = time.monotonic()
    yield
    print(f"   {time.monotonic() - started:.1f} s", file=sys.stderr)


def synthesise(corpus: Path) -> None:
    """Write a corpus in the layout of LibriSpeech, with its phones."""
    from aalbert.pipeline.corpora.synthesis import write_librispeech

    for subset, first_speaker, speakers in SUBSETS:
        write_librispeech(
            corpus,
            speakers=speakers,
            utterances_per_speaker=6,
            seed=SEED,
            subset=subset,
            first_speaker=first_speaker,
        )


def prepare_features(out: Path) -> None:
    """Prepare the corpus with the default features."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.prepare.config import PrepareConfig
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.shards.format.feature_settings import LogMelSettings

    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(read_librispeech(out / "LibriSpeech"), out / "data", config, PrepareLimits())


def train_heads(out: Path) -> list[Path]:
    """Train a phone head on the pretrained encoder, on the same untrained, and on features."""
    from aalbert.train.downstream.run import start_downstream
    from aalbert.train.recipes import read_task_recipe

    pretrained = str(out / "runs/pretrain")
    upstreams = {
        "phone-pretrained": (pretrained, "untrained=false"),
        "phone-untrained": (pretrained, "untrained=true"),
        # The three frames that the encoder reads as one.
        "phone-logmel": ("logmel", "baseline.frames_stacked=3"),
    }
    labels = f"labels.alignments={out / 'LibriSpeech/alignments.txt'}"
    for name, (upstream, setting) in upstreams.items():
        settings = (labels, *PHONE_SETTINGS, setting)
        config = read_task_recipe("librispeech-phone", assignments=settings, environment={})
        start_downstream(config, out / "data", upstream, out / "runs" / name)
    return [out / "runs" / name for name in upstreams]


def evaluate(runs: list[Path]) -> None:
    """Write the reports of the runs of a task, and print their table."""
    from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_runs
    from aalbert.train.evaluation.report import write_reports
    from aalbert.train.evaluation.tables import text_tables

    evaluations = evaluate_runs(runs)
    comparisons = compare_evaluations(evaluations)
    write_reports(evaluations, comparisons)
    print(text_tables([evaluation.result for evaluation in evaluations], comparisons))
    print(f"report: {evaluations[0].measured.folder.report.resolve()}")
    print(f"comparison: {evaluations[0].measured.folder.comparison.resolve()}")
