"""The Dask engine of `prepare`: tasks on a cluster that shares the output and the corpus."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from aalbert.common.signals import stop_if_asked
from aalbert.errors import ConfigError, InputError, WorkersDiedError
from aalbert.pipeline.prepare.engine import ShowProgress
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import ShardTask
from aalbert.pipeline.prepare.shard_task import run_task
from aalbert.pipeline.prepare.work_folder import Amount

ATTEMPTS = 3
CONNECT_S = 10
# When starting workers fails, Dask stops trying, and its tasks then wait forever.
NO_WORKER_LIMIT_S = 60
POLL_S = 1


@dataclass(frozen=True, kw_only=True)
class DaskEngine:
    """Runs tasks on the workers of the Dask scheduler at `address`.

    Every worker must see the corpus under the same paths, reach the output, and have this
    package. The shards of a worker that dies are computed again by another; after a minute
    without any worker the run ends.
    """

    address: str

    @property
    def workers(self) -> int:
        """The number of tasks that run at once now; a cluster may grow."""
        with connect(self.address) as client:
            return max(1, sum(map(int, client.nthreads().values())))

    def run(self, tasks: Sequence[ShardTask], output: Output, show: ShowProgress) -> None:
        """Run every task and report progress after each shard.

        Raises `WorkersDiedError` when several workers died on one shard, or none is left.
        """
        from distributed.scheduler import KilledWorker

        total = Amount()
        with connect(self.address) as client:
            executor = client.get_executor(pure=False, retries=ATTEMPTS - 1)
            ended: SimpleQueue[Future[Amount]] = SimpleQueue()
            try:
                for task in tasks:
                    executor.submit(run_task, task, output).add_done_callback(ended.put)
                for _ in tasks:
                    total += wait_for_one(ended, client, self.address).result()
                    show(total)
            except KilledWorker as error:
                raise WorkersDiedError(
                    f"the workers of {self.address} that computed one shard kept dying: is there "
                    f"enough memory? {error}"
                ) from error
            finally:
                executor.shutdown(wait=False)


def wait_for_one(ended: SimpleQueue[Future[Amount]], client: Any, address: str) -> Future[Amount]:
    """Return the next task that ends; `WorkersDiedError` after too long without a worker."""
    seen = time.monotonic()
    while time.monotonic() - seen < NO_WORKER_LIMIT_S:
        stop_if_asked()
        try:
            return ended.get(timeout=POLL_S)
        except Empty:
            if client.nthreads():
                seen = time.monotonic()
    raise WorkersDiedError(
        f"{address} has had no worker for {NO_WORKER_LIMIT_S} s: they died, or none was started. "
        "Start workers, with enough memory, and run the same command again: it continues"
    )


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a scheduler; `InputError` when none responds."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--engine dask needs Dask: pip install 'aalbert[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler responds at {address}: {error}") from error
    with client:
        yield client
