"""`prepare`: plan the shards of a corpus, compute them, and finish the dataset."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aalbert.common.cores import available_cores
from aalbert.common.progress import Progress, progress_bar
from aalbert.common.signals import stoppable
from aalbert.common.text import human_bytes
from aalbert.errors import InputError, OutputInUseError, StorageError
from aalbert.pipeline.corpora.corpus import Corpus, check_skipped, read_skips
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import Engine, LocalEngine
from aalbert.pipeline.prepare.finish import finish_dataset
from aalbert.pipeline.prepare.output import Output, open_output, require_space
from aalbert.pipeline.prepare.plan import ShardTask, make_plan, plan_fingerprint
from aalbert.pipeline.prepare.work_folder import (
    WORK_FOLDER,
    Amount,
    Part,
    PrepareRecord,
    claim,
    discard_damaged,
    find_records,
    fragment_name,
    make_record,
    missing_parts,
)
from aalbert.shards.format.dataset_folder import MANIFEST_NAME
from aalbert.shards.format.manifest import SKIPPED_NAME, Manifest, read_manifest

LOCK = f"{WORK_FOLDER}/lock"


@dataclass(frozen=True, kw_only=True)
class PrepareLimits:
    """The engine and limits of a `prepare`, none of which changes a byte of the dataset."""

    engine: Engine = field(default_factory=lambda: LocalEngine(workers=available_cores()))
    max_skipped: float = 0.001


def prepare(
    corpus: Corpus, out: Path | str, config: PrepareConfig, limits: PrepareLimits | None = None
) -> Manifest:
    """Compute the features of a corpus into shards at `out` and return the manifest.

    `out` is a folder or any URL that fsspec reaches. Work that was finished before an
    interruption is kept, and so is a finished dataset. Raises `OutputInUseError` when `out`
    holds something else, `StorageError` when it has too little space, and
    `TooManySkippedError` when more inputs were unusable than `limits` allows.
    """
    limits = limits or PrepareLimits()
    output = open_output(str(out))
    plan = checked_plan(corpus, config)
    # A run that was stopped right after writing its manifest leaves its work folder.
    if not is_finished(output, plan) or output.has(WORK_FOLDER):
        with stoppable(), output.hold(LOCK):
            # The previous holder of the lock may have finished the dataset.
            if not is_finished(output, plan):
                record = compute(corpus, output, config, limits.engine, plan, Part())
                complete(output, record)
            output.remove(WORK_FOLDER)
    return checked_manifest(output, limits.max_skipped)


def prepare_part(
    corpus: Corpus, out: Path | str, config: PrepareConfig, engine: Engine, part: Part
) -> list[str] | None:
    """Compute one part of the shards, alongside other parts; `finalize` completes the dataset.

    Returns the parts that are still to be computed, such as 2/4; None when the dataset was finished
    already. Raises what `prepare` does.
    """
    output = open_output(str(out))
    plan = checked_plan(corpus, config)
    if is_finished(output, plan):
        return None
    with (
        stoppable(),
        output.hold(LOCK, shared=True),
        output.hold(f"{LOCK}-{part.number}-of-{part.count}"),
    ):
        # The previous holder of the lock may have finished the dataset.
        if is_finished(output, plan):
            output.remove(WORK_FOLDER)
            return None
        record = compute(corpus, output, config, engine, plan, part)
        present = output.sizes().keys()
    missing = [shard for shard in record.shards if fragment_name(shard) not in present]
    return missing_parts(record, missing)


def finalize(out: Path | str, max_skipped: float) -> Manifest:
    """Complete a dataset whose parts are all computed and return its manifest.

    Raises `InputError` when nothing was prepared there, and `OutputInUseError` when
    shards are missing or a part is still running.
    """
    output = open_output(str(out))
    if output.has(WORK_FOLDER):
        with stoppable(), output.hold(LOCK):
            # Records of parts come before that of a run without parts.
            record = max(find_records(output), key=lambda each: each.parts, default=None)
            if record and not output.has(MANIFEST_NAME):
                discard_damaged(output, record.shards)
                complete(output, record)
            output.remove(WORK_FOLDER)
    if not output.has(MANIFEST_NAME):
        raise InputError(
            f"there is no unfinished dataset in {output.name}: compute its parts first with "
            "'aalbert prepare CORPUS DIR --part I/N'"
        )
    return checked_manifest(output, max_skipped)


def checked_plan(corpus: Corpus, config: PrepareConfig) -> str:
    """Return the fingerprint of the plan of a corpus; `InputError` when the corpus is empty."""
    if not corpus.utterances:
        raise InputError(f"no audio files below {corpus.root}")
    return plan_fingerprint(corpus, config)


def is_finished(output: Output, plan: str) -> bool:
    """Return whether the output holds this dataset; `OutputInUseError` for anything else."""
    present = output.sizes()
    if MANIFEST_NAME not in present:
        others = sorted(name for name in present if not name.startswith(WORK_FOLDER))
        if others and not any(name.startswith(WORK_FOLDER) for name in present):
            raise OutputInUseError(f"{output.name} is not empty: choose another --out")
        return False
    manifest = finished_manifest(output)
    if manifest.plan_fingerprint != plan:
        raise OutputInUseError(
            f"{output.name} holds a dataset made from other files or settings: "
            "choose another --out, or delete it first"
        )
    manifest.check_sizes(output.name, present)
    return True


def finished_manifest(output: Output) -> Manifest:
    """Read the manifest of an output."""
    return read_manifest(output.fetch(MANIFEST_NAME).parent)


def compute(
    corpus: Corpus,
    output: Output,
    config: PrepareConfig,
    engine: Engine,
    plan: str,
    part: Part,
) -> PrepareRecord:
    """Compute the missing shards of a part and return the record of the run."""
    tasks = make_plan(corpus, config)
    record = make_record(corpus, config, tasks, plan, part)
    chosen = part.choose(tasks)
    with explain_full_disk(output, chosen):
        claim(output, corpus, record, part)
        output.remove_unfinished({path for task in chosen for path in shard_files(task.name)})
        discard_damaged(output, [task.name for task in chosen])
        missing = missing_tasks(output, chosen)
        needed = output.needed_bytes([task.stored_bytes for task in missing], engine.workers)
        require_space(needed, output.free_bytes(), output.name)
        files = sum(len(task.utterances) for task in chosen)
        done = files - sum(len(task.utterances) for task in missing)
        with progress_bar("prepare", total=files, unit="file", done=done) as bar:
            unread = len(corpus.skipped)
            engine.run(missing, output, lambda amount: show_progress(bar, done, amount, unread))
    return record


def complete(output: Output, record: PrepareRecord) -> None:
    """Complete a dataset whose shards are all there; the caller has its lock alone."""
    output.remove_unfinished()
    with explain_full_disk(output, []):
        finish_dataset(output, record)


def shard_files(shard: str) -> tuple[str, str]:
    """Return the paths, in the output, of a shard and of the fragment of its index."""
    return f"{shard}.tar", fragment_name(shard)


def missing_tasks(output: Output, tasks: list[ShardTask]) -> list[ShardTask]:
    """Return the tasks whose shards are not finished."""
    present = output.sizes().keys()
    return [task for task in tasks if fragment_name(task.name) not in present]


@contextmanager
def explain_full_disk(output: Output, tasks: list[ShardTask]) -> Iterator[None]:
    """Turn the error of a full disk into `StorageError` with the space that is still needed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        missing = missing_tasks(output, tasks)
        needed = human_bytes(sum(task.stored_bytes for task in missing))
        shards = f"{len(missing)} of {len(tasks)} shards, about {needed},"
        what = shards if missing else "the indexes"
        raise StorageError(
            f"no space left in {output.name}: {what} are still to be written. Make room and run "
            "the same command again: finished work is kept"
        ) from error


def show_progress(bar: Progress, done: int, amount: Amount, unread: int) -> None:
    """Show files, speed in times real time, and inputs skipped, of which some were never read."""
    elapsed = max(1e-9, bar.elapsed_s)
    skipped = amount.skipped + unread
    bar.set_postfix_str(
        f"{amount.seconds / elapsed:,.0f} x real time" + f", {skipped} skipped" * bool(skipped),
        refresh=False,
    )
    # A shard that is computed again counts from its beginning, so the bar may go back.
    bar.reach(done + amount.taken + amount.skipped)


def checked_manifest(output: Output, max_skipped: float) -> Manifest:
    """Read the manifest of an output; raise when more than that share of its inputs was skipped."""
    manifest = finished_manifest(output)
    listed = f"{output.name.rstrip('/')}/{SKIPPED_NAME}"
    check_skipped(
        taken=manifest.utterances,
        skipped=manifest.skipped,
        max_skipped=max_skipped,
        find_skips=lambda: read_skips(output.fetch(SKIPPED_NAME)),
        advice=f"The dataset is complete without them; see {listed}",
    )
    return manifest
