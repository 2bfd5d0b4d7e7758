"""The command `aalbert demo`: a synthetic corpus through the code of the other commands."""

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer

from aalbert import __version__
from aalbert.commands.console import say_after_stop
from aalbert.commands.machine import use_machine
from aalbert.common.notes import note
from aalbert.errors import InterruptedRunError, OutputInUseError

# In the folder of a demo: what it was made with, and that its corpus is whole.
MARKER, CORPUS_MADE = ".aalbert-demo", ".corpus-made"
SEED = 1
# Name, first reader and number of readers: no voice is in two of them.
SUBSETS = (
    ("train-clean-100", 1000, 40),
    ("dev-clean", 2000, 3),
    ("test-clean", 3000, 10),
)
# Less than the presets, so that the demo ends within minutes.
DEMO_SETTINGS = ("steps=1800", "data.batch_seconds=16", "validate_every_steps=180")
SPLITS = ("splits.train=train-clean-100", "splits.dev=dev-clean")


@dataclass(frozen=True)
class Comparison:
    """Runs of a task on the three upstreams, by names with a prefix; the first is the reference."""

    prefix: str
    task: str
    title: str
    settings: tuple[str, ...]
    # The preset of the task, the usual one by default.
    preset: str | None = None


PHONES = Comparison(
    prefix="phone",
    task="librispeech-phone",
    title="phones",
    settings=(*SPLITS, "splits.test=test-clean", "epochs=5", "learning_rate=3e-3"),
)
VOICES = Comparison(
    prefix="voice",
    task="voxceleb1-verification",
    title="same or different voice",
    settings=SPLITS,
    preset="cosine",
)
COMPARISONS = (PHONES, VOICES)
# The pretrained encoder, the same untrained, and the three frames that it reads as one.
UPSTREAMS = {
    "pretrained": ("pretrain", "untrained=false"),
    "untrained": ("pretrain", "untrained=true"),
    "logmel": ("logmel", "baseline.frames_stacked=3"),
}


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")] = Path(
        "demo"
    ),
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete an older demo in --out and begin anew.")
    ] = False,
) -> None:
    """Synthesise a small corpus and run the whole path on it: some minutes on two cores.

    The same command continues an interrupted demo; what is done is not done again.

    Example: aalbert demo
    """
    command = "make demo" if is_repository(out) else f"aalbert demo --out {shlex.quote(str(out))}"
    claim(out, command, restart=restart)
    say_after_stop(f"run '{command}' again, finished work is kept")
    use_machine(None, None)
    with continued_by(command):
        run_demo(out)


def is_repository(out: Path) -> bool:
    """Return whether this is the demo that the repository's Makefile makes."""
    makefile = Path("Makefile")
    return out == Path("demo") and makefile.is_file() and b"aalbert demo" in makefile.read_bytes()


def claim(out: Path, command: str, *, restart: bool) -> None:
    """Make the folder of a demo, unless it has an unfinished or finished one like it.

    Raises `OutputInUseError` when it holds anything else.
    """
    from aalbert.common.files import holds_something, write_text

    marker, made_with = out / MARKER, json.dumps(plan(), sort_keys=True)
    if restart and marker.is_file():
        note(f"deleting the demo in {out}")
        shutil.rmtree(out)
    if marker.is_file():
        if marker.read_text("utf-8") == made_with:
            return
        raise OutputInUseError(
            f"{out} has a demo by other versions or settings: keep it and choose another --out, or "
            f"delete it with 'aalbert demo --out {shlex.quote(str(out))} --restart'"
        )
    if holds_something(out):
        raise OutputInUseError(f"{out} is not empty and not an older demo: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(marker, made_with)


def plan() -> dict[str, Any]:
    """Return all that decides what a demo makes."""
    settings = [DEMO_SETTINGS, *((each.task, each.preset, each.settings) for each in COMPARISONS)]
    return {"version": __version__, "seed": SEED, "subsets": SUBSETS, "settings": settings}


@contextmanager
def continued_by(command: str) -> Iterator[None]:
    """Say of an interrupted step which command continues the whole."""
    try:
        yield
    except InterruptedRunError as error:
        reason = str(error).partition(":")[0].partition(";")[0]
        raise InterruptedRunError(
            f"{reason}: run '{command}' again, finished work is kept", error.signal_number
        ) from error


def run_demo(out: Path) -> None:
    """Take all steps that were not taken before, and print the tables."""
    with step("synthesise a corpus of voices"):
        synthesise(out)
    with step("prepare: features into shards"):
        prepare_features(out)
    with step("pretrain: reconstruct masked frames"):
        pretrain(out)
    for comparison in COMPARISONS:
        with step(f"downstream: {comparison.title}, with three upstreams"):
            train_heads(out, comparison)
    pages = []
    for comparison in COMPARISONS:
        with step(f"evaluate: {comparison.title}"):
            pages += evaluate([run_of(out, comparison, name) for name in UPSTREAMS])
    for page in pages:
        print(page)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step on stderr, and afterwards its duration."""
    note(f"== {title}")
    started = time.monotonic()
    yield
    note(f"   {time.monotonic() - started:.1f} s")


def synthesise(out: Path) -> None:
    """Write a corpus in the layout of LibriSpeech, with its phones."""
    from aalbert.common.signals import stop_if_asked, stoppable
    from aalbert.pipeline.corpora.synthesis import write_librispeech

    corpus = out / "LibriSpeech"
    if (out / CORPUS_MADE).is_file():
        return
    if corpus.exists():
        shutil.rmtree(corpus)
    with stoppable():
        for subset, first_speaker, speakers in SUBSETS:
            write_librispeech(
                corpus,
                speakers=speakers,
                utterances_per_speaker=6,
                seed=SEED,
                subset=subset,
                first_speaker=first_speaker,
                after_each=stop_if_asked,
            )
        (out / CORPUS_MADE).touch()


def prepare_features(out: Path) -> None:
    """Prepare the corpus with the default features, and write trials of the voices to test on."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.prepare.config import PrepareConfig
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.shards.format.feature_settings import LogMelSettings
    from aalbert.shards.reading.dataset import Dataset

    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(read_librispeech(out / "LibriSpeech"), out / "data", config, PrepareLimits())
    dataset = Dataset(out / "data")
    keys = dataset.keys(dataset.rows(["test-clean"]))
    trials_of(out).write_text(all_trials(keys), "utf-8")


def all_trials(keys: Sequence[str]) -> str:
    """Return every pair of utterances as a list of trials; a key begins with its speaker."""
    return "".join(
        f"{int(left.partition('-')[0] == right.partition('-')[0])} {left} {right}\n"
        for left, right in combinations(keys, 2)
    )


def trials_of(out: Path) -> Path:
    """Return the path of the list of trials."""
    return out / "trials.txt"


def pretrain(out: Path) -> None:
    """Pretrain the encoder, or continue to."""
    from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
    from aalbert.train.recipes import read_pretrain_recipe
    from aalbert.train.run_folder import RunFolder

    run = out / "runs/pretrain"
    if RunFolder(run).is_begun():
        resume_pretraining(run)
    else:
        settings = read_pretrain_recipe("tiny", assignments=DEMO_SETTINGS, environment={})
        start_pretraining(settings, [out / "data"], run)


def run_of(out: Path, comparison: Comparison, upstream: str) -> Path:
    """Return the folder of a run."""
    return out / "runs" / f"{comparison.prefix}-{upstream}"


def train_heads(out: Path, comparison: Comparison) -> None:
    """Train the heads of a comparison, or continue to."""
    from aalbert.train.downstream.run import resume_downstream, start_downstream
    from aalbert.train.recipes import read_task_recipe
    from aalbert.train.run_folder import RunFolder

    named_files = {
        PHONES.task: f"labels.alignments={out / 'LibriSpeech/alignments.txt'}",
        VOICES.task: f"trials.test={trials_of(out)}",
    }
    for name, (upstream, setting) in UPSTREAMS.items():
        run = run_of(out, comparison, name)
        if RunFolder(run).is_begun():
            resume_downstream(run, comparison.task)
            continue
        config = read_task_recipe(
            comparison.task,
            comparison.preset,
            assignments=(*comparison.settings, named_files[comparison.task], setting),
            environment={},
        )
        place = str(out / "runs/pretrain") if upstream == "pretrain" else upstream
        start_downstream(config, out / "data", place, run)


def evaluate(runs: list[Path]) -> list[str]:
    """Write the reports of the runs of a task, print their table, and return lines on the pages."""
    from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_runs
    from aalbert.train.evaluation.report import write_reports
    from aalbert.train.evaluation.tables import text_tables

    evaluations = evaluate_runs(runs)
    comparisons = compare_evaluations(evaluations)
    write_reports(evaluations, comparisons)
    print(text_tables([evaluation.result for evaluation in evaluations], comparisons), flush=True)
    folder = evaluations[0].measured.folder
    print()
    return [f"report: {folder.report.resolve()}", f"comparison: {folder.comparison.resolve()}"]
