"""`prepare`: plan the shards of a corpus, compute them, and finish the dataset."""

import errno
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aalbert.common.progress import ProgressBar, progress_bar
from aalbert.common.text import human_bytes
from aalbert.errors import InputError, OutputInUseError, StorageError, TooManySkippedError
from aalbert.pipeline.corpora.corpus import Corpus, Skip
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import Engine, LocalEngine, available_cores
from aalbert.pipeline.prepare.finish import finalise
from aalbert.pipeline.prepare.output import Output, open_output, require_space
from aalbert.pipeline.prepare.plan import ShardTask, make_plan, plan_fingerprint
from aalbert.pipeline.prepare.work_folder import (
    WORK_FOLDER,
    Amount,
    Part,
    PrepareRecord,
    claim,
    find_record,
    fragment_name,
    make_record,
)
from aalbert.shards.format.manifest import MANIFEST_NAME, SKIPPED_NAME, Manifest, read_manifest

LOCK = f"{WORK_FOLDER}/lock"


@dataclass(frozen=True, kw_only=True)
class PrepareLimits:
    """How a `prepare` runs, none of which changes a byte of what it makes."""

    engine: Engine = field(default_factory=lambda: LocalEngine(workers=available_cores()))
    max_skipped: float = 0.001


def prepare(
    corpus: Corpus, out: Path | str, config: PrepareConfig, limits: PrepareLimits | None = None
) -> Manifest:
    """Compute the features of a corpus into shards at `out` and return the manifest.

    `out` is a folder or any URL that fsspec reaches. What was done before an interruption
    is kept, and a finished dataset is left as it is. Raises `OutputInUseError` when `out`
    holds something else, `StorageError` when it has no room, and `TooManySkippedError`
    when more inputs were unusable than `limits` allows.
    """
    limits = limits or PrepareLimits()
    output = open_output(str(out))
    plan = planned(corpus, config)
    # A run that was stopped right after its manifest leaves its work folder behind.
    if not is_finished(output, plan) or output.has(WORK_FOLDER):
        with output.hold(LOCK):
            # Whoever held the lock before may have done it all.
            if not is_finished(output, plan):
                record = compute(corpus, output, config, limits.engine, plan, Part())
                with explain_full_disk(output, []):
                    finalise(output, record)
            output.remove(WORK_FOLDER)
    manifest = finished_manifest(output)
    check_skipped(output, manifest, limits.max_skipped)
    return manifest


def prepare_part(
    corpus: Corpus, out: Path | str, config: PrepareConfig, engine: Engine, part: Part
) -> bool:
    """Compute one part of the shards, beside other parts; `finalize` ends the work.

    Returns False when the dataset was finished already. Raises what `prepare` does.
    """
    output = open_output(str(out))
    plan = planned(corpus, config)
    if is_finished(output, plan):
        return False
    with (
        output.hold(LOCK, shared=True),
        output.hold(f"{LOCK}-{part.number}-of-{part.count}"),
    ):
        # Whoever held the lock before may have done it all.
        left = not is_finished(output, plan)
        if left:
            compute(corpus, output, config, engine, plan, part)
        else:
            output.remove(WORK_FOLDER)
    return left


def finalize(out: Path | str, max_skipped: float) -> Manifest:
    """Finish a dataset whose parts are all computed and return its manifest.

    Raises `InputError` when nothing was prepared there, and `OutputInUseError` when
    shards are missing or a part is still at work.
    """
    output = open_output(str(out))
    if output.has(WORK_FOLDER):
        with output.hold(LOCK):
            record = find_record(output)
            if record and not output.has(MANIFEST_NAME):
                with explain_full_disk(output, []):
                    finalise(output, record)
            output.remove(WORK_FOLDER)
    if not output.has(MANIFEST_NAME):
        raise InputError(
            f"there is no unfinished dataset in {output.name}: compute its parts first with "
            "'aalbert prepare CORPUS DIR --part I/N'"
        )
    manifest = finished_manifest(output)
    check_skipped(output, manifest, max_skipped)
    return manifest


def planned(corpus: Corpus, config: PrepareConfig) -> str:
    """Return the fingerprint of the plan of a corpus that is not empty."""
    if not corpus.utterances:
        raise InputError(f"no audio files below {corpus.root}")
    return plan_fingerprint(corpus, config)


def is_finished(output: Output, plan: str) -> bool:
    """Say whether the output holds this very dataset, whole; raise when it holds another thing."""
    present = output.sizes()
    if MANIFEST_NAME not in present:
        strangers = sorted(name for name in present if not name.startswith(WORK_FOLDER))
        if strangers and not any(name.startswith(WORK_FOLDER) for name in present):
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
    """Compute the shards of a part that are not there yet, and say what the whole record is."""
    tasks = make_plan(corpus, config)
    record = make_record(corpus, config, tasks, plan, part)
    mine = part.choose(tasks)
    with explain_full_disk(output, mine):
        claim(output, corpus, record, part)
        left = unfinished(output, mine)
        needed = output.needed_bytes([task.stored_bytes for task in left], engine.workers)
        require_space(needed, output.free_bytes(), output.name)
        files = sum(len(task.utterances) for task in mine)
        done = files - sum(len(task.utterances) for task in left)
        with progress_bar("prepare", total=files, unit="file", done=done) as bar:
            engine.run(left, output, lambda amount: advance(bar, done, amount))
    return record


def unfinished(output: Output, tasks: list[ShardTask]) -> list[ShardTask]:
    """Return the tasks whose shards are not there yet."""
    present = output.sizes().keys()
    return [task for task in tasks if fragment_name(task.name) not in present]


@contextmanager
def explain_full_disk(output: Output, tasks: list[ShardTask]) -> Iterator[None]:
    """Turn the end of the space into an error that says how much more is needed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        left = unfinished(output, tasks)
        needed = human_bytes(sum(task.stored_bytes for task in left))
        what = f"{len(left)} of {len(tasks)} shards, about {needed}," if left else "the indexes"
        raise StorageError(
            f"no space left in {output.name}: {what} are still to be written. Make room and run "
            "the same command again: what is done is kept"
        ) from error


def advance(bar: ProgressBar, done: int, amount: Amount) -> None:
    """Show files, hours of audio, speed in times real time, and files skipped."""
    elapsed = max(1e-9, bar.format_dict["elapsed"])
    bar.set_postfix_str(
        f"{amount.seconds / 3600:.2f} h, {amount.seconds / elapsed:,.0f} x real time, "
        f"{amount.skipped} skipped",
        refresh=False,
    )
    # A shard that is done again counts from its beginning, so the bar may step back.
    bar.update(done + amount.taken + amount.skipped - bar.n)


def check_skipped(output: Output, manifest: Manifest, max_skipped: float) -> None:
    """Raise when more inputs were skipped than that share of them; unless 0, one always may be."""
    inputs = manifest.utterances + manifest.skipped
    if manifest.skipped > max(1 if max_skipped else 0, max_skipped * inputs):
        lines = output.fetch(SKIPPED_NAME).read_text("utf-8").splitlines()
        skipped = [Skip(**json.loads(line)) for line in lines]
        reason, count = Counter(skip.kind for skip in skipped).most_common(1)[0]
        raise TooManySkippedError(
            f"{manifest.skipped} of {inputs} inputs were skipped, more than --max-skipped "
            f"{max_skipped:g} allows; most often ({count}): {reason}. The dataset is complete "
            f"without them; see {output.name.rstrip('/')}/{SKIPPED_NAME}"
        )
