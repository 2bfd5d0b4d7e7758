"""The process that reads ahead: fills the slots of a ring with batches until nobody takes them.

It is a program of its own with two open descriptors, imports neither PyTorch nor the program of
its parent, and ends when its parent does.
"""

import pickle
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from aalbert.errors import AalbertError, IntegrityError
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import Step, make_plan
from aalbert.shards.loading.fill import Filler
from aalbert.shards.loading.look_up import Contents, LookUp
from aalbert.shards.loading.order import Rows
from aalbert.shards.loading.shard_maps import ShardMaps
from aalbert.shards.loading.shared_slots import (
    Failure,
    Filled,
    Notices,
    RingSize,
    Slots,
    receive_slots,
    send_failure,
)
from aalbert.shards.loading.utterance_table import find_arrays, make_table
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.shards.reading.shard_cache import ShardCache

# Steps whose contents are looked up at once.
LOOKED_UP_TOGETHER = 16
# The share of the slots that at most are told of at once.
TOLD_SHARE = 0.3


@dataclass(frozen=True)
class SelectionRecord:
    """What another process needs to open a selection."""

    place: str
    cache: ShardCache | None
    fingerprint: str
    rows: Rows
    weight: float

    @classmethod
    def of(cls, some: Selection) -> "SelectionRecord":
        """Describe a selection."""
        dataset = some.dataset
        # The URL as it was given: names for people lack its password.
        place = dataset.mirror.store.url if dataset.mirror else str(dataset.folder)
        cache = dataset.mirror.cache if dataset.mirror else None
        return cls(place, cache, dataset.manifest.fingerprint, some.rows, some.weight)

    def open(self) -> Selection:
        """Open the selection; `IntegrityError` when the dataset was replaced meanwhile."""
        dataset = Dataset(self.place, self.cache)
        if dataset.manifest.fingerprint != self.fingerprint:
            raise IntegrityError(f"{dataset.place} was replaced while it was read: start again")
        return Selection(dataset, self.rows, self.weight)


@dataclass(frozen=True, kw_only=True)
class ReaderJob:
    """What a reader reads: every `readers`-th step from the `turn`-th after `position` on."""

    selections: tuple[SelectionRecord, ...]
    config: LoaderConfig
    position: int
    rank: int
    world_size: int
    turn: int
    ring: RingSize


def run_job(job: ReaderJob, connection: socket.socket, memory: int) -> None:
    """Fill slots in turn, and say so; which are free again comes over the connection."""
    table = make_table([some.open() for some in job.selections], job.config.features)
    plan = make_plan(table, job.config)
    arrays = find_arrays(table)
    look_up = LookUp(table, arrays, plan.frames, job.config)
    maps = ShardMaps([some.dataset for some in table.selections])
    slots = Slots(memory, job.ring)
    filler = Filler(table, arrays, maps, job.config, slots.reading)
    steps = plan.steps(job.position, job.world_size)
    own_steps = islice(steps, job.turn, None, job.config.readers)
    free = list(range(job.ring.slots))
    buffers = [slots.buffer(slot) for slot in free]
    notices = Notices(connection, most=max(1, int(job.ring.slots * TOLD_SHARE)))
    try:
        for step, contents in with_contents(own_steps, look_up, job.rank):
            slot, shape = take_slot(free, connection, notices), contents.shape
            began = time.perf_counter()
            maps.enter(step, job.rank, plan)
            filler.fill(contents, shape.arrays(buffers[slot]))
            filled = Filled(slot, shape.size, step.position, step.dropped, step.repeated)
            notices.add(filled, took_s=time.perf_counter() - began)
    finally:
        notices.send()


def take_slot(free: list[int], connection: socket.socket, notices: Notices) -> int:
    """Return a slot to be filled, and wait for one, all others being told of, if none is free.

    The one that came back last is the likeliest to be in the processor's cache still.
    """
    if not free:
        notices.send()
    free.extend(receive_slots(connection, wait=not free))
    return free.pop()


def with_contents(
    steps: Iterator[Step], look_up: LookUp, rank: int
) -> Iterator[tuple[Step, Contents]]:
    """Yield steps with what their batches hold, looked up for several at once.

    A large copy drives Python's code out of the caches, so that it is slow just after one.
    """
    while some := list(islice(steps, LOOKED_UP_TOGETHER)):
        batches, epochs = [step.batches[rank] for step in some], [step.epoch for step in some]
        yield from zip(some, look_up.find(batches, epochs), strict=True)


def wait_for_end(connection: socket.socket) -> None:
    """Wait until the parent has read everything and closed the connection."""
    try:
        while True:
            receive_slots(connection, wait=True)
    except (EOFError, ConnectionError):
        return


def main() -> None:
    """Do the job that comes on standard input."""
    # The parent decides what a signal to the whole group means; this ends when it does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        run_job(pickle.load(sys.stdin.buffer), connection, int(sys.argv[2]))
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except AalbertError as error:
        send_failure(connection, Failure(type(error), str(error)))
        wait_for_end(connection)
