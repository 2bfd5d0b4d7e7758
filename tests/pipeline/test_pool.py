import os
import signal
from pathlib import Path

import pytest

from aalbert.errors import WorkersDiedError
from aalbert.pipeline import pool
from aalbert.pipeline.librispeech import read_librispeech
from aalbert.pipeline.plan import PrepareConfig, ShardTask, make_plan
from aalbert.pipeline.task import TaskReport, fragment_path, run_task


@pytest.fixture
def tasks(librispeech_folder: Path, small_config: PrepareConfig) -> list[ShardTask]:
    return make_plan(read_librispeech(librispeech_folder), small_config)


def die_once(task: ShardTask, out: Path) -> TaskReport:
    """Run a task, but let the first process that comes here be killed."""
    marker = out / "died"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run_task(task, out)


def die(task: ShardTask, out: Path) -> TaskReport:
    os.kill(os.getpid(), signal.SIGKILL)
    return run_task(task, out)


def test_the_shard_of_a_killed_worker_is_done_by_another(
    tasks: list[ShardTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "run_task", die_once)
    reports = list(pool.run_tasks(tasks, tmp_path, workers=2))
    assert len(reports) == len(tasks)
    assert all(fragment_path(tmp_path, task).is_file() for task in tasks)
    assert (tmp_path / "died").exists()


def test_workers_that_die_again_and_again_end_the_run(
    tasks: list[ShardTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "run_task", die)
    with pytest.raises(WorkersDiedError, match=r"workers died 3 times in a row, \d+ shards are le"):
        list(pool.run_tasks(tasks, tmp_path, workers=2))
