"""The engines that compute the shards of a `prepare`: the interface, and the local engine.

The local engine distributes tasks over processes, each of which may be killed without harm.
They report their progress after every file in shared memory.
"""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnContext
from typing import Protocol

from aalbert.common.isolation import isolated_children
from aalbert.common.notes import say
from aalbert.common.signals import blocked_signals, leave_signals_to_the_parent, stop_if_asked
from aalbert.errors import WorkersDiedError
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import ShardTask
from aalbert.pipeline.prepare.shard_task import run_task
from aalbert.pipeline.prepare.work_folder import Amount

# Called at intervals with the total amount done so far.
ShowProgress = Callable[[Amount], None]
ATTEMPTS = 3
REFRESH_S = 0.2
# Spawned, not forked: a fork would inherit the locks of other threads.
CONTEXT = multiprocessing.get_context("spawn")


class SharedProgress:
    """One row per worker: files taken, files skipped, seconds of audio of its current shard.

    Each worker writes its own row and the parent reads them all, so rows need no lock:
    a sum that is read while a row changes is at most one file behind.
    """

    def __init__(self, context: SpawnContext, workers: int) -> None:
        self._numbers = context.RawArray("d", 3 * workers)
        self.asked = context.RawValue("b", 0)

    def add(self, slot: int, amount: Amount) -> None:
        """Add progress."""
        self._numbers[3 * slot] += amount.taken
        self._numbers[3 * slot + 1] += amount.skipped
        self._numbers[3 * slot + 2] += amount.seconds

    def clear(self, slot: int) -> None:
        """Set the row of a worker to zero."""
        self._numbers[3 * slot : 3 * slot + 3] = [0, 0, 0]

    def total(self) -> Amount:
        """Return the progress of all current shards together."""
        return Amount(
            taken=round(sum(self._numbers[0::3])),
            skipped=round(sum(self._numbers[1::3])),
            seconds=sum(self._numbers[2::3]),
        )

    def interrupt(self) -> None:
        """Ask every worker to abandon its shard; see `stop_if_asked`."""
        self.asked.value = 1


class Engine(Protocol):
    """Runs tasks in any order and anywhere; the bytes of a shard do not depend on that."""

    @property
    def workers(self) -> int:
        """The number of tasks that run at once."""

    def run(self, tasks: Sequence[ShardTask], output: Output, show: ShowProgress) -> None:
        """Run every task, or raise the error that stopped one."""


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """Runs tasks in `workers` processes of this machine; a single one is this process."""

    workers: int

    def run(self, tasks: Sequence[ShardTask], output: Output, show: ShowProgress) -> None:
        """Run every task.

        The shard of a process that dies is computed again, since tasks are idempotent. Raises
        `WorkersDiedError` when several processes died on the same shard.
        """
        if min(self.workers, len(tasks)) <= 1:
            run_here(tasks, output, show)
        else:
            run_in_processes(tasks, output, min(self.workers, len(tasks)), show)


def run_here(tasks: Sequence[ShardTask], output: Output, show: ShowProgress) -> None:
    """Run tasks one after another in this process."""
    total = Amount()

    def report(amount: Amount) -> None:
        nonlocal total
        total += amount
        show(total)

    for task in tasks:
        run_task(task, output, report)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A running task: its worker slot, its process pool, and the number of this attempt."""

    task: ShardTask
    slot: int
    executor: ProcessPoolExecutor
    number: int = 1


def run_in_processes(
    tasks: Sequence[ShardTask], output: Output, workers: int, show: ShowProgress
) -> None:
    """Run tasks in processes, each in its own pool, so that one that dies breaks no other."""
    progress = SharedProgress(CONTEXT, workers)
    waiting = deque(tasks)
    running: dict[Future[Amount], Attempt] = {}
    # A signal may come as a process starts, before its task is among those that run.
    executors: set[ProcessPoolExecutor] = set()
    finished = Amount()

    def begin(attempt: Attempt) -> None:
        executors.add(attempt.executor)
        running[submit(attempt, output)] = attempt

    try:
        for slot in range(workers):
            begin(Attempt(task=waiting.popleft(), slot=slot, executor=start(progress, slot)))
        while running:
            stop_if_asked()
            done, _ = wait(running, timeout=REFRESH_S, return_when=FIRST_COMPLETED)
            for future in done:
                attempt = running[future]
                following = retry_if_died(future, attempt, progress)
                progress.clear(attempt.slot)
                if following is None:
                    finished += future.result()
                    if waiting:
                        following = replace(attempt, task=waiting.popleft(), number=1)
                    else:
                        attempt.executor.shutdown()
                if following is not None:
                    begin(following)
                del running[future]
            show(finished + progress.total())
    finally:
        progress.interrupt()
        for executor in executors:
            executor.shutdown(cancel_futures=True)


def start(progress: SharedProgress, slot: int) -> ProcessPoolExecutor:
    """Return a pool of one process.

    The first one starts the process of `multiprocessing` that tracks what pools share, which a
    signal to all processes must not end before the work has ended.
    """
    with blocked_signals(), isolated_children():
        return ProcessPoolExecutor(1, CONTEXT, initializer=start_worker, initargs=(progress, slot))


def submit(attempt: Attempt, output: Output) -> "Future[Amount]":
    """Submit a task to its process, which starts with its first task.

    The terminal sends Ctrl-C to that process too, which would end it during its start.
    """
    with blocked_signals(), isolated_children():
        return attempt.executor.submit(run_reporting, attempt.task, output)


def retry_if_died(
    future: "Future[Amount]", attempt: Attempt, progress: SharedProgress
) -> Attempt | None:
    """Return the next attempt at a task whose process died, or None when the task is done."""
    error = future.exception()
    if error is None:
        return None
    if not isinstance(error, BrokenProcessPool):
        raise error
    attempt.executor.shutdown()
    if attempt.number == ATTEMPTS:
        raise WorkersDiedError(
            f"the process that computed shard {attempt.task.name} died {ATTEMPTS} times: "
            "is there enough memory? Fewer --workers need less. In a script, call prepare below "
            'if __name__ == "__main__":'
        )
    say(f"a worker died; shard {attempt.task.name} is computed again")
    return replace(attempt, number=attempt.number + 1, executor=start(progress, attempt.slot))


# In a worker process: the shared progress, and the row of this worker.
worker_progress: SharedProgress
worker_slot: int


def start_worker(progress: SharedProgress, slot: int) -> None:
    """Initialise a worker: stop when the parent says so, or ends; store where to report."""
    global worker_progress, worker_slot
    worker_progress, worker_slot = progress, slot
    leave_signals_to_the_parent(progress.asked)
    threading.Thread(target=end_with_parent, daemon=True).start()


def run_reporting(task: ShardTask, output: Output) -> Amount:
    """Run a task in a worker, reporting every file."""
    return run_task(task, output, lambda amount: worker_progress.add(worker_slot, amount))


def end_with_parent() -> None:
    """Wait until the parent ends, for any reason, and end this worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
