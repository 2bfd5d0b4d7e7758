"""`prepare`: plan the shards of a corpus, compute them, and finish the dataset."""

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from aalbert.errors import InputError, OutputInUseError, TooManySkippedError
from aalbert.files import require_empty, write_json
from aalbert.pipeline.corpus import Corpus, Skip
from aalbert.pipeline.finalise import SKIPPED_NAME, finalise
from aalbert.pipeline.lock import hold
from aalbert.pipeline.plan import PrepareConfig, ShardTask, make_plan, plan_fingerprint
from aalbert.pipeline.pool import run_tasks
from aalbert.pipeline.task import WORK_FOLDER, TaskReport
from aalbert.progress import progress_bar
from aalbert.shards.dataset import Dataset
from aalbert.shards.manifest import MANIFEST_NAME, Manifest, read_manifest

PLAN_NAME = "plan.json"
LOCK_NAME = "lock"
ARCHIVES_FOLDER = "archives"


def available_cores() -> int:
    """Return the cores this process may use, which under a scheduler are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class PrepareLimits:
    """How a `prepare` runs, none of which changes a byte of what it makes."""

    workers: int = field(default_factory=available_cores)
    max_skipped: float = 0.001


def prepare(corpus: Corpus, out: Path, config: PrepareConfig, limits: PrepareLimits) -> Manifest:
    """Compute the features of a corpus into shards below `out` and return the manifest.

    What was done before an interruption is kept, and a finished dataset is left as it
    is. Raises `OutputInUseError` when `out` holds something else, and
    `TooManySkippedError` when more inputs were unusable than `limits` allows.
    """
    if not corpus.utterances:
        raise InputError(f"no audio files below {corpus.root}")
    plan = plan_fingerprint(corpus, config)
    # A run that was stopped right after its manifest leaves its work folder behind.
    if not is_finished(out, plan) or (out / WORK_FOLDER).is_dir():
        refuse_foreign_files(out)
        with hold(out / WORK_FOLDER / LOCK_NAME):
            # Whoever held the lock before may have done it all.
            if not is_finished(out, plan):
                tasks = make_plan(corpus, config)
                claim(out, plan)
                compute(tasks, out, limits.workers, total_files=len(corpus.utterances))
                finalise(corpus, config, tasks, out, plan)
            shutil.rmtree(out / WORK_FOLDER)
    manifest = read_manifest(out)
    check_skipped(out, manifest, limits.max_skipped)
    return manifest


def is_finished(out: Path, plan: str) -> bool:
    """Say whether `out` already holds this very dataset, whole; raise when it does not."""
    if not (out / MANIFEST_NAME).is_file():
        return False
    if Dataset(out).manifest.plan_fingerprint != plan:
        raise OutputInUseError(
            f"{out} holds a dataset made from other files or settings: "
            "choose another --out, or delete it first"
        )
    return True


def refuse_foreign_files(out: Path) -> None:
    """Raise when `out` has files that no `prepare` left there."""
    if not (out / WORK_FOLDER).is_dir() and not (out / MANIFEST_NAME).is_file():
        require_empty(out)


def archive_cache(out: Path) -> Path:
    """Return the folder inside `out` for indexes of archives, gone when the dataset is finished.

    Raises `OutputInUseError` when `out` holds something that no `prepare` left there.
    """
    refuse_foreign_files(out)
    return out / WORK_FOLDER / ARCHIVES_FOLDER


def claim(out: Path, plan: str) -> None:
    """Record in `out` which plan is being carried out; raise when it is another one."""
    record = out / WORK_FOLDER / PLAN_NAME
    if not record.is_file():
        write_json(record, {"plan_fingerprint": plan})
    elif json.loads(record.read_text("utf-8"))["plan_fingerprint"] != plan:
        raise OutputInUseError(
            f"{out} holds an unfinished 'prepare' of other files or settings: "
            "choose another --out, or delete it first"
        )


def compute(tasks: list[ShardTask], out: Path, workers: int, total_files: int) -> None:
    """Run the tasks with a progress bar on stderr."""
    seconds = 0.0
    skipped = 0
    with progress_bar("prepare", total=total_files, unit="file") as bar:
        for report in run_tasks(tasks, out, workers):
            seconds += report.seconds
            skipped += report.skipped
            advance(bar, report, seconds, skipped)


def advance(bar: "tqdm[NoReturn]", report: TaskReport, seconds: float, skipped: int) -> None:
    """Show files, hours of audio, speed in times real time, and files skipped."""
    elapsed = max(1e-9, bar.format_dict["elapsed"])
    bar.set_postfix_str(
        f"{seconds / 3600:.2f} h, {seconds / elapsed:,.0f} x real time, {skipped} skipped",
        refresh=False,
    )
    bar.update(report.taken + report.skipped)


def check_skipped(out: Path, manifest: Manifest, max_skipped: float) -> None:
    """Raise when more inputs were skipped than that share of them; unless 0, one always may be."""
    inputs = manifest.utterances + manifest.skipped
    if manifest.skipped > max(1 if max_skipped else 0, max_skipped * inputs):
        path = out / SKIPPED_NAME
        lines = path.read_text("utf-8").splitlines()
        skipped = [Skip(**json.loads(line)) for line in lines]
        reason, count = Counter(skip.kind for skip in skipped).most_common(1)[0]
        raise TooManySkippedError(
            f"{manifest.skipped} of {inputs} inputs were skipped, more than --max-skipped "
            f"{max_skipped:g} allows; most often ({count}): {reason}. The dataset is complete "
            f"without them; see {path}"
        )
