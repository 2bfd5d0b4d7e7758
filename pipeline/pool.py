"""The local engine of `prepare`: tasks over a pool of processes."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from aalbert.errors import WorkersDiedError
from aalbert.pipeline.plan import ShardTask
from aalbert.pipeline.task import TaskReport, run_task

ATTEMPTS = 3


def run_tasks(tasks: Sequence[ShardTask], out: Path, workers: int) -> Iterator[TaskReport]:
    """Run every task and yield the reports as they come; one worker runs in this process.

    A worker that dies takes the pool with it, so what is left goes to a new pool: tasks
    are idempotent. Raises `WorkersDiedError` when several pools die without one task done.
    """
    if min(workers, len(tasks)) <= 1:
        yield from (run_task(task, out) for task in tasks)
        return
    left = list(tasks)
    deaths_in_a_row = 0
    while left:
        before = len(left)
        try:
            for task, report in run_pool(left, out, workers):
                left.remove(task)
                yield report
        except BrokenProcessPool:
            deaths_in_a_row = 1 if len(left) < before else deaths_in_a_row + 1
            print("a worker died; its shard is done again", file=sys.stderr)
            if deaths_in_a_row == ATTEMPTS:
                raise WorkersDiedError(died_message(left)) from None


def run_pool(
    tasks: Sequence[ShardTask], out: Path, workers: int
) -> Iterator[tuple[ShardTask, TaskReport]]:
    """Run tasks in one pool; `BrokenProcessPool` when one of its processes dies."""
    # Spawned, not forked: a fork would inherit the locks of Arrow's and other threads.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(tasks))
    with ProcessPoolExecutor(count, mp_context=context, initializer=start_worker) as executor:
        futures = {executor.submit(run_task, task, out): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def died_message(left: Sequence[ShardTask]) -> str:
    """Say which shards could not be done, and what may be the matter."""
    return (
        f"workers died {ATTEMPTS} times in a row, {len(left)} shards are left, for example "
        f"{left[0].name}: is there enough memory? Fewer --workers need less"
    )


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and leave no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
