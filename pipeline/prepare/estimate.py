"""The estimate of a `prepare`, from the sizes of all files and a sample of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aalbert.common.text import duration, human_bytes
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Corpus, Utterance
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
    """Counts of files and shards, and estimates of hours, bytes and seconds of work."""

    files: int
    shards: int
    hours: float
    bytes: int
    free_bytes: int
    seconds: float
    workers: int
    sampled_files: int
    unusable_files: int

    def describe(self) -> str:
        """Return the estimate as text."""
        return (
            f"{self.files:,} files, about {self.hours:,.2f} hours, into {self.shards:,} shards of "
            f"{human_bytes(self.bytes)} in all; {human_bytes(self.free_bytes)} free\n"
            f"about {duration(self.seconds)} with --workers {self.workers}, judging by "
            f"{self.sampled_files} files that were tried ({self.unusable_files} of them unusable); "
            "nothing was written"
        )


def estimate(
    corpus: Corpus, output: Output, config: PrepareConfig, engine: Engine
) -> PrepareEstimate:
    """Estimate a `prepare` without writing anything."""
    tasks = make_plan(corpus, config)
    files = len(corpus.utterances)
    sample = corpus.utterances[:: max(1, files // SAMPLED_FILES)]
    audio_s, work_s, weight, unusable, tried = measure_sample(sample, config)
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
        unusable_files=unusable,
    )


def measure_sample(
    sample: Sequence[Utterance], config: PrepareConfig
) -> tuple[float, float, float, int, int]:
    """Compute some utterances and discard the results.

    Returns the seconds of audio, the seconds it took, the bytes the plan expects of these
    files, how many were unusable, and how many were tried.
    """
    audio_s = weight = 0.0
    unusable = tried = 0
    started = time.perf_counter()
    for utterance in sample:
        tried += 1
        weight += stored_bytes(utterance, config.features)
        try:
            made = make_sample(utterance, config)
        except UnusableAudioError:
            unusable += 1
        else:
            audio_s += made.samples / config.features[0].sample_rate
        if time.perf_counter() - started > SAMPLING_S:
            break
    return audio_s, time.perf_counter() - started, weight, unusable, tried
