"""The estimate of a `prepare`, from the sizes of all files and a sample of them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aalbert.common.progress import shown
from aalbert.common.text import duration, human_bytes
from aalbert.errors import TooManySkippedError
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Corpus, Skip, Utterance, are_too_many
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import Engine
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import make_plan, stored_bytes
from aalbert.pipeline.prepare.shard_task import make_sample

# Files that are tried to measure their duration and cost, and the time limit for that.
SAMPLED_FILES = 64
SAMPLING_S = 3.0


@dataclass(frozen=True, kw_only=True)
class PrepareEstimate:
    """Counts of files and shards, and estimates of hours, bytes and seconds of work.

    `skipped_files` cannot be taken by what the corpus's reader found; with the unusable ones of
    the sample they decide `exit_code`, which is 5 when they alone are more than may be skipped.
    """

    files: int
    shards: int
    hours: float
    bytes: int
    free_bytes: int
    seconds: float
    workers: int
    sampled_files: int
    unusable_files: int
    skipped_files: int
    usual_reason: str | None
    max_skipped: float
    exit_code: int

    def describe(self) -> str:
        """Return the estimate as text."""
        shards = "1 shard" if self.shards == 1 else f"{self.shards:,} shards"
        return (
            f"{self.files:,} files, about {self.hours:,.2f} hours, into {shards} of "
            f"{human_bytes(self.bytes)} in all; {human_bytes(self.free_bytes)} free\n"
            f"about {duration(self.seconds)} with --workers {self.workers}, judging by "
            f"{self.sampled_files} files that were tried ({self.unusable_files} of them unusable); "
            f"nothing was written{self.describe_skipped()}"
        )

    def describe_skipped(self) -> str:
        """Return what is known of the inputs that cannot be taken, as a line behind others."""
        if not self.exit_code:
            return ""
        inputs = self.files + self.skipped_files
        return (
            f"\n{self.skipped_files + self.unusable_files:,} of {inputs:,} inputs cannot be taken, "
            f"more than --max-skipped {self.max_skipped:g} allows, most often: "
            f"{self.usual_reason}\n"
            f"the real run would write a dataset without them and end with exit code "
            f"{self.exit_code}"
        )


def estimate(
    corpus: Corpus,
    output: Output,
    config: PrepareConfig,
    engine: Engine,
    max_skipped: float = 0.001,
) -> PrepareEstimate:
    """Estimate a `prepare` without writing anything."""
    tasks = make_plan(corpus, config)
    files = len(corpus.utterances)
    sample = corpus.utterances[:: max(1, files // SAMPLED_FILES)]
    audio_s, work_s, weight, reasons, tried = measure_sample(sample, config)
    reasons += [skip.kind for skip in corpus.skipped]
    inputs = files + len(corpus.skipped)
    too_many = are_too_many(len(reasons), inputs, max_skipped)
    # The plan derives stored sizes from file sizes, so their ratio is what the sample gives.
    scale = sum(task.stored_bytes for task in tasks) / weight if weight else 0.0
    frames_bytes = sum(
        settings.dims * 2 * 1000 / settings.frame_shift_ms for settings in config.features
    )
    workers = engine.workers
    return PrepareEstimate(
        files=files,
        shards=len(tasks),
        hours=audio_s * scale / 3600,
        bytes=round(audio_s * scale * frames_bytes),
        free_bytes=output.free_bytes(),
        seconds=work_s * scale / workers,
        workers=workers,
        sampled_files=tried,
        unusable_files=len(reasons) - len(corpus.skipped),
        skipped_files=len(corpus.skipped),
        usual_reason=Counter(reasons).most_common(1)[0][0] if reasons else None,
        max_skipped=max_skipped,
        exit_code=TooManySkippedError.exit_code if too_many else 0,
    )


def measure_sample(
    sample: Sequence[Utterance], config: PrepareConfig
) -> tuple[float, float, float, list[str], int]:
    """Compute some utterances and discard the results.

    Returns the seconds of audio, the seconds it took, the bytes the plan expects of these
    files, the kinds of reasons for which some were unusable, and how many were tried.
    """
    audio_s = weight = 0.0
    unusable: list[str] = []
    tried = 0
    started = time.perf_counter()
    for utterance in shown(sample, "try files", total=len(sample), unit="file"):
        tried += 1
        weight += stored_bytes(utterance, config.features)
        try:
            made = make_sample(utterance, config)
        except UnusableAudioError as error:
            unusable.append(Skip(source=utterance.source, reason=str(error)).kind)
        else:
            audio_s += made.samples / config.features[0].sample_rate
        if time.perf_counter() - started > SAMPLING_S:
            break
    return audio_s, time.perf_counter() - started, weight, unusable, tried
