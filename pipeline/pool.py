"""The local engine of `prepare`: tasks over a pool of processes."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import torch

from aalbert.pipeline.plan import ShardTask
from aalbert.pipeline.task import TaskReport, run_task


def run_tasks(tasks: Sequence[ShardTask], out: Path, workers: int) -> Iterator[TaskReport]:
    """Run every task and yield the reports as they come; one worker runs in this process."""
    if min(workers, len(tasks)) <= 1:
        with one_thread():
            yield from (run_task(task, out) for task in tasks)
        return
    # Spawned, not forked: a fork would inherit the locks of torch's and Arrow's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(tasks)),
        mp_context=context,
        initializer=start_worker,
    ) as executor:
        futures = [executor.submit(run_task, task, out) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Compute on one thread, and leave Ctrl-C to the parent, which stops all workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as the workers do, so that sums are added in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
