"""Measure the planning of epochs at the scale of 60,000 hours, from index rows alone.

20 million utterances with durations like LibriSpeech's, in shards of 1,300. No data are read: the
loader plans from the numbers of frames and the shards, which are all that it needs of the index.
Prints the seconds and memory of the plan of a whole epoch, the seconds of resuming in its middle,
and whether 64 ranks get equal numbers of batches and every utterance once.

    python -m benchmarks.scale
"""

import argparse
import json
import platform
import resource
import time
from importlib.metadata import version

import numpy as np

from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.epoch_plan import EpochPlan
from aalbert.shards.loading.order import Rows

FRAMES_PER_SECOND = 100
UTTERANCES_PER_SHARD = 1_300


def draw_frames(utterances: int) -> Rows:
    """Draw lengths like LibriSpeech's: many of 12 to 16 s, a tail of short ones, up to 35 s."""
    draws = np.random.default_rng(0)
    long = draws.normal(1_420, 130, utterances)
    short = draws.uniform(140, 1_300, utterances)
    frames = np.where(draws.random(utterances) < 0.55, long, short)
    return np.clip(frames, 140, 3_500).astype(np.int64)


def peak_mib() -> float:
    """Return the peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed_plan(utterances: int, ranks: int, frames_per_batch: int) -> dict[str, object]:
    """Plan an epoch for some ranks, resume in its middle, and check their batches."""
    frames = draw_frames(utterances)
    shards = np.arange(utterances) // UTTERANCES_PER_SHARD
    before_mib, started = peak_mib(), time.perf_counter()
    plan = EpochPlan(
        frames, shards, OrderConfig(frames_per_batch=frames_per_batch), fingerprint="scale"
    )
    opened = time.perf_counter()
    seen = np.zeros(utterances, np.uint8)
    steps, dropped, middle, equal = 0, 0, 0, True
    for step in plan.rest_of_epoch(0, ranks):
        for batch in step.batches:
            seen[batch] += 1
        steps, dropped = steps + 1, dropped + step.dropped
        equal = equal and len(step.batches) == ranks and all(map(len, step.batches))
        middle = step.position if step.position <= utterances // 2 else middle
    planned = time.perf_counter()
    again = EpochPlan(frames, shards, plan.config, fingerprint="scale")
    next(again.steps(middle, ranks))
    resumed = time.perf_counter()
    return {
        "utterances": utterances,
        "hours": round(float(frames.sum()) / FRAMES_PER_SECOND / 3600),
        "ranks": ranks,
        "steps": steps,
        "open_s": round(opened - started, 2),
        "plan_of_an_epoch_s": round(planned - opened, 2),
        "resume_in_the_middle_s": round(resumed - planned, 2),
        "peak_mib": round(peak_mib()),
        "peak_before_planning_mib": round(before_mib),
        "every_rank_has_a_batch_at_every_step": equal,
        "seen_once": int((seen == 1).sum()),
        "dropped": dropped,
        "all_counted": bool((seen <= 1).all() and int(seen.sum()) + dropped == utterances),
    }


def main() -> None:
    """Measure several times and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=20_000_000)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--frames-per-batch", type=int, default=48_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for _ in range(arguments.repeats):
        result = timed_plan(arguments.utterances, arguments.ranks, arguments.frames_per_batch)
        print(json.dumps(result), flush=True)
    print(json.dumps({"python": platform.python_version(), "numpy": version("numpy")}))


if __name__ == "__main__":
    main()
