"""One `aalbert prepare` from its options to the line it prints."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aalbert.console import show
from aalbert.pipeline.corpus import Corpus
from aalbert.pipeline.engine import EngineName, make_engine
from aalbert.pipeline.estimate import estimate
from aalbert.pipeline.job import parse_part
from aalbert.pipeline.output import open_output
from aalbert.pipeline.plan import PrepareConfig
from aalbert.pipeline.prepare import PrepareLimits, finalize, prepare, prepare_part
from aalbert.pipeline.recipe import load_recipe
from aalbert.shards.manifest import Manifest
from aalbert.shards.settings import SilenceSettings


def run_prepare(
    corpus: Corpus,
    *,
    out: str,
    feature: list[str] | None,
    assignments: list[str] | None,
    config: Path | None,
    loudness_db: float | None,
    gain_db: float | None,
    trim_silence: bool,
    strict_audio: bool,
    workers: int | None,
    engine: EngineName,
    dask_address: str | None,
    part: str | None,
    max_skipped: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Prepare a corpus, or a part of it, and print what came of it."""
    recipe = load_recipe(
        config,
        [*silence_assignments(trim_silence), *(assignments or ()), *wave(loudness_db, gain_db)],
        features=tuple(feature) if feature else None,
        strict_audio=strict_audio or None,
    )
    chosen = make_engine(engine, workers, dask_address)
    for note in corpus.notes:
        print(f"note: {note}", file=sys.stderr)
    if dry_run:
        expected = estimate(corpus, open_output(out), recipe, chosen)
        show({"data": out, **asdict(expected)}, as_json, f"{out}: {expected.describe()}")
    elif part is not None:
        run_part(corpus, out, recipe, PrepareLimits(engine=chosen), part, as_json)
    else:
        limits = PrepareLimits(engine=chosen, max_skipped=max_skipped)
        show_manifest(out, prepare(corpus, out, recipe, limits), as_json)


def silence_assignments(trim_silence: bool) -> list[str]:
    """Return what --trim-silence means: the defaults, over which other settings may go."""
    defaults = asdict(SilenceSettings()) if trim_silence else {}
    return [f"wave.silence.{name}={value}" for name, value in defaults.items()]


def wave(loudness_db: float | None, gain_db: float | None) -> list[str]:
    """Return the flags about the wave as assignments."""
    flags = {"loudness_db": loudness_db, "gain_db": gain_db}
    return [f"wave.{name}={value}" for name, value in flags.items() if value is not None]


def run_part(
    corpus: Corpus, out: str, recipe: PrepareConfig, limits: PrepareLimits, text: str, as_json: bool
) -> None:
    """Prepare one part and say how to go on."""
    part = parse_part(text)
    computed = prepare_part(corpus, out, recipe, limits.engine, part)
    document: dict[str, Any] = {"data": out, "part": part.name, "finished": not computed}
    words = (
        f"{out}: part {part.name} is done; when all are: aalbert prepare finalize {out}"
        if computed
        else f"{out}: the dataset is finished already"
    )
    show(document, as_json, words)


def run_finalize(out: str, max_skipped: float, as_json: bool) -> None:
    """Finish a dataset that was prepared in parts and print what came of it."""
    show_manifest(out, finalize(out, max_skipped), as_json)


def show_manifest(out: str, manifest: Manifest, as_json: bool) -> None:
    """Print what a dataset holds."""
    splits = {name: split.utterances for name, split in manifest.splits.items()}
    summary = {
        "data": out,
        "utterances": manifest.utterances,
        "hours": round(manifest.hours, 4),
        "splits": splits,
        "skipped": manifest.skipped,
        "fingerprint": manifest.fingerprint,
    }
    listed = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    show(
        summary,
        as_json,
        f"{out}: {manifest.utterances:,} utterances, {manifest.hours:.2f} hours ({listed}), "
        f"{manifest.skipped} inputs skipped",
    )
