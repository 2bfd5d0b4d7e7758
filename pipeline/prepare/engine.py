"""The engines that compute the shards of a `prepare`: what one is, and the local one.

The local engine spreads tasks over processes, each of which may be killed without harm. They
report, file by file, on a board in shared memory.
"""

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnContext
from typing import Protocol

from aalbert.errors import WorkersDiedError
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import ShardTask
from aalbert.pipeline.prepare.shard_task import run_task
from aalbert.pipeline.prepare.work_folder import Amount
from aalbert.pipeline.signals import blocked_signals, leave_signals_to_the_parent

# Called now and then with what is done so far, in all.
Show = Callable[[Amount], None]
ATTEMPTS = 3
REFRESH_S = 0.2
# Spawned, not forked: a fork would inherit the locks of other threads.
CONTEXT = multiprocessing.get_context("spawn")


class InterruptedTaskError(Exception):
    """The run is being stopped, so this shard is given up; what it wrote is removed."""


class Board:
    """One row per worker: files taken, files skipped, seconds of audio of its present shard.

    Each worker writes its own row and the parent reads them all, so rows need no lock:
    a sum that is read while a row changes is at most one file behind.
    """

    def __init__(self, context: SpawnContext, workers: int) -> None:
        self._numbers = context.RawArray("d", 3 * workers)
        self._interrupted = context.RawValue("b", 0)

    def add(self, slot: int, amount: Amount) -> None:
        """Note progress; `InterruptedTaskError` when the parent wants the work to end."""
        self._numbers[3 * slot] += amount.taken
        self._numbers[3 * slot + 1] += amount.skipped
        self._numbers[3 * slot + 2] += amount.seconds
        if self._interrupted.value:
            raise InterruptedTaskError

    def clear(self, slot: int) -> None:
        """Begin the row of a worker anew."""
        self._numbers[3 * slot : 3 * slot + 3] = [0, 0, 0]

    def total(self) -> Amount:
        """Return what all present shards have come to."""
        return Amount(
            taken=round(sum(self._numbers[0::3])),
            skipped=round(sum(self._numbers[1::3])),
            seconds=sum(self._numbers[2::3]),
        )

    def interrupt(self) -> None:
        """Ask every worker to give up its shard after the file at hand."""
        self._interrupted.value = 1


class Engine(Protocol):
    """Runs tasks in any order and any place; the bytes of a shard do not depend on it."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    def run(self, tasks: Sequence[ShardTask], output: Output, show: Show) -> None:
        """Run every task, or raise what stopped one."""


def available_cores() -> int:
    """Return the cores this process may use, which under a scheduler are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """Runs tasks in `workers` processes of this machine; a single one is this process."""

    workers: int

    def run(self, tasks: Sequence[ShardTask], output: Output, show: Show) -> None:
        """Run every task.

        A process that dies costs its shard's repetition, since tasks are idempotent. Raises
        `WorkersDiedError` when the same shard has ended its process several times.
        """
        if min(self.workers, len(tasks)) <= 1:
            run_here(tasks, output, show)
        else:
            run_in_processes(tasks, output, min(self.workers, len(tasks)), show)


def run_here(tasks: Sequence[ShardTask], output: Output, show: Show) -> None:
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
    """A task at work: in which slot, in which process, for the how-manieth time."""

    task: ShardTask
    slot: int
    executor: ProcessPoolExecutor
    number: int = 1


def run_in_processes(tasks: Sequence[ShardTask], output: Output, workers: int, show: Show) -> None:
    """Run tasks in processes, each in a pool of its own, so that a death breaks no other."""
    board = Board(CONTEXT, workers)
    waiting = deque(tasks)
    running: dict[Future[Amount], Attempt] = {}
    finished = Amount()
    try:
        for slot in range(workers):
            attempt = Attempt(task=waiting.popleft(), slot=slot, executor=start(board, slot))
            running[submit(attempt, output)] = attempt
        while running:
            done, _ = wait(running, timeout=REFRESH_S, return_when=FIRST_COMPLETED)
            for future in done:
                attempt = running[future]
                following = settle(future, attempt, board)
                board.clear(attempt.slot)
                if following is None:
                    finished += future.result()
                    following = take_next(attempt, waiting)
                if following is not None:
                    running[submit(following, output)] = following
                del running[future]
            show(finished + board.total())
    finally:
        board.interrupt()
        for attempt in running.values():
            attempt.executor.shutdown(cancel_futures=True)


def start(board: Board, slot: int) -> ProcessPoolExecutor:
    """Return a pool of one process."""
    return ProcessPoolExecutor(1, CONTEXT, initializer=start_worker, initargs=(board, slot))


def submit(attempt: Attempt, output: Output) -> "Future[Amount]":
    """Hand a task to its process, which starts with the first one.

    The terminal sends Ctrl-C to that process too, which would die of it while it starts.
    """
    with blocked_signals():
        return attempt.executor.submit(run_reporting, attempt.task, output)


def settle(future: "Future[Amount]", attempt: Attempt, board: Board) -> Attempt | None:
    """Return the repetition of an attempt whose process died, or None when it went well."""
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
    print(f"a worker died; shard {attempt.task.name} is done again", file=sys.stderr)
    return replace(attempt, number=attempt.number + 1, executor=start(board, attempt.slot))


def take_next(attempt: Attempt, waiting: deque[ShardTask]) -> Attempt | None:
    """Return the next task for the process of a finished one; the process ends without."""
    if waiting:
        return replace(attempt, task=waiting.popleft(), number=1)
    attempt.executor.shutdown()
    return None


# Of a worker process: where it reports, and as whom.
worker_board: Board
worker_slot: int


def start_worker(board: Board, slot: int) -> None:
    """Leave signals to the parent, end when it ends, and remember where to report."""
    global worker_board, worker_slot
    worker_board, worker_slot = board, slot
    leave_signals_to_the_parent()
    threading.Thread(target=end_with_parent, daemon=True).start()


def run_reporting(task: ShardTask, output: Output) -> Amount:
    """Run a task in a worker, reporting every file."""
    return run_task(task, output, lambda amount: worker_board.add(worker_slot, amount))


def end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and leave no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
