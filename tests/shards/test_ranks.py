"""Two ranks as real processes, which talk over gloo as a training run's would."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aalbert.shards import Dataset

LIMIT_S = 60
# Every rank meets the others at every step: unequal counts would hang, and hit the limit.
PROGRAM = """
import datetime, json, sys
import numpy as np
import torch.distributed as dist
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig, Selection

rank, world_size, folder, store, rows, position = sys.argv[1:7]
rank, world_size = int(rank), int(world_size)
dist.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size,
    timeout=datetime.timedelta(seconds=50),
)
dataset = Dataset(folder)
order = OrderConfig(frames_per_batch=200, window_shards=2, pool_batches=2)
config = LoaderConfig(order=order, seed=5, prefetch=2)
some = Selection(dataset, np.array(json.loads(rows)))
loader = Loader(some, config, rank=rank, world_size=world_size)
loader.position = int(position)
limit = int(sys.argv[7])
taken = []
for batch in loader:
    taken.append(batch.rows.tolist())
    dist.barrier()
    if len(taken) == limit:
        break
print(json.dumps({"rows": taken, "position": loader.position, "dropped": loader.dropped}))
dist.destroy_process_group()
"""


def run_ranks(
    folder: Path, store: Path, world_size: int, rows: list[int], position: int = 0, limit: int = -1
) -> list[dict[str, object]]:
    """Read an epoch, or a part of it, with some processes, and return what each had."""
    arguments = [str(folder), str(store), json.dumps(rows), str(position), str(limit)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(world_size), *arguments],
            stdout=subprocess.PIPE,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world_size
    return [json.loads(output) for output in outputs]


def all_rows(results: list[dict[str, object]]) -> list[int]:
    return [row for result in results for batch in result["rows"] for row in batch]  # type: ignore[attr-defined]


def rows_in_shards(dataset: Dataset, shards: int) -> list[int]:
    """The rows of the first shards."""
    return np.flatnonzero(dataset.shards() < shards).tolist()


@pytest.mark.parametrize(("ranks", "shards"), [(2, 3), (3, 1)])
def test_ranks_do_equal_steps_and_no_utterance_is_missing(
    prepared: Path, tmp_path: Path, ranks: int, shards: int
) -> None:
    """More ranks than shards, shards that do not divide, and a last batch that is smaller."""
    rows = rows_in_shards(Dataset(prepared), shards)
    results = run_ranks(prepared, tmp_path / "store", ranks, rows)
    assert len({len(result["rows"]) for result in results}) == 1  # type: ignore[arg-type]
    dropped = {result["dropped"] for result in results}
    assert len(dropped) == 1
    assert len(all_rows(results)) + dropped.pop() == len(rows)  # type: ignore[operator]
    assert set(Counter(all_rows(results)).values()) == {1}


def test_a_run_goes_on_with_two_ranks_and_then_with_one_again(
    prepared: Path, tmp_path: Path
) -> None:
    rows = list(range(len(Dataset(prepared))))
    position, taken = 0, []
    for number, (ranks, limit) in enumerate([(1, 2), (2, 2), (1, -1)]):
        results = run_ranks(prepared, tmp_path / f"{number}", ranks, rows, position, limit)
        positions = {result["position"] for result in results}
        assert len(positions) == 1
        position = int(str(positions.pop()))
        taken += all_rows(results)
    assert sorted(taken) == rows
    assert position == len(rows)
