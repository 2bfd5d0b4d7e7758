"""Two ranks as real processes that communicate by gloo, as in a training run."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from aalbert.shards import Dataset

RANKS = 2
# Both start in seconds, or in a minute where many tests run beside them.
LIMIT_S = 180
# Every rank meets the other at every step: with unequal counts one would wait for 60 s, and fail.
PROGRAM = """
import datetime, json, sys
import numpy as np
import torch.distributed as dist
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig, Selection

rank, folder, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=2,
    timeout=datetime.timedelta(seconds=60),
)
dataset = Dataset(folder)
order = OrderConfig(frames_per_batch=200, window_shards=2, pool_batches=2)
for phases in json.loads(sys.argv[4]):
    position = 0
    for shards, world_size, limit in phases:
        config = LoaderConfig(order=order, seed=5, prefetch=2 if shards == 3 else 0)
        taken, dropped = [], 0
        if rank < world_size:
            some = Selection(dataset, np.flatnonzero(dataset.shards() < shards))
            loader = Loader(some, config, rank=rank, world_size=world_size)
            loader.position = position
            for batch in loader:
                taken.append(batch.rows.tolist())
                if world_size == 2:
                    dist.barrier()
                if len(taken) == limit:
                    break
            position, dropped = loader.position, loader.dropped
            loader.close()
        print(json.dumps([taken, position, dropped]))
        # A rank that pauses learns from the first where it is to go on.
        places = [position]
        dist.broadcast_object_list(places, src=0)
        [position] = places
dist.destroy_process_group()
"""

# Each is read from the start by (shards, ranks, steps at most) one after another; -1: all.
SCENARIOS = {
    "three shards": [(3, 2, -1)],
    "one shard": [(1, 2, -1)],
    "one, two, one ranks": [(1_000, 1, 2), (1_000, 2, 2), (1_000, 1, -1)],
}


class Phase(NamedTuple):
    """The record of each rank: rows of every batch, the position after it, dropped utterances."""

    taken: list[list[list[int]]]
    positions: list[int]
    dropped: list[int]

    @property
    def rows(self) -> list[int]:
        return [row for batches in self.taken for batch in batches for row in batch]


@pytest.fixture(scope="module")
def phases(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Phase]]:
    """All scenarios, read by the same two processes."""
    arguments = [str(prepared), str(tmp_path_factory.mktemp("gloo") / "store")]
    arguments.append(json.dumps(list(SCENARIOS.values())))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), *arguments], stdout=subprocess.PIPE
        )
        for rank in range(RANKS)
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * RANKS
    by_rank = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    steps = iter(
        [Phase(*map(list, zip(*lines, strict=True))) for lines in zip(*by_rank, strict=True)]
    )
    return {name: [next(steps) for _ in plan] for name, plan in SCENARIOS.items()}


@pytest.mark.parametrize(("name", "shards"), [("three shards", 3), ("one shard", 1)])
def test_ranks_do_equal_steps_and_no_utterance_is_missing(
    prepared: Path, phases: dict[str, list[Phase]], name: str, shards: int
) -> None:
    """More ranks than shards, shards that do not divide, and a last batch that is smaller."""
    [phase] = phases[name]
    rows = np.flatnonzero(Dataset(prepared).shards() < shards).tolist()
    first, second = phase.taken
    assert len(first) == len(second) > 0
    assert set(Counter(phase.rows).values()) == {1}
    assert set(phase.rows) <= set(rows)
    assert phase.dropped[0] == phase.dropped[1]
    assert len(phase.rows) + phase.dropped[0] == len(rows)


def test_a_run_continues_with_two_ranks_and_then_with_one_again(
    prepared: Path, phases: dict[str, list[Phase]]
) -> None:
    alone, together, again = phases["one, two, one ranks"]
    rows = list(range(len(Dataset(prepared))))
    assert [len(batches) for batches in (*alone.taken, *together.taken)] == [2, 0, 2, 2]
    assert together.positions[0] == together.positions[1]
    assert sorted(alone.rows + together.rows + again.rows) == rows
    assert again.positions[0] == len(rows)
