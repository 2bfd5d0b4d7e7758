"""The reader process: it fills the slots of a ring with batches, ahead of the training loop.

It is a separate program with two open descriptors. It imports neither PyTorch nor the program of
its parent, and it ends when its parent does.
"""

import pickle
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from aalbert.errors import AalbertError
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import Step, make_plan
from aalbert.shards.loading.fill import Filler, ShardMaps
from aalbert.shards.loading.look_up import Contents, LookUp
from aalbert.shards.loading.shared_slots import (
    Failure,
    Filled,
    FilledSender,
    RingSize,
    Slots,
    receive_slots,
    send_failure,
)
from aalbert.shards.loading.utterance_table import find_arrays, make_table
from aalbert.shards.reading.dataset import Selection

# The number of steps whose contents are looked up together.
LOOK_UP_STEPS = 16
# The largest proportion of the slots that are reported in one message.
REPORTED_PROPORTION = 0.3


@dataclass(frozen=True, kw_only=True)
class ReaderJob:
    """The job of one reader: every `readers`-th step, from the `reader`-th after `position` on."""

    selections: tuple[Selection, ...]
    config: LoaderConfig
    position: int
    rank: int
    world_size: int
    reader: int
    ring: RingSize


def run_job(job: ReaderJob, connection: socket.socket, memory: int) -> None:
    """Fill free slots and report them; slots to fill again are received over the connection."""
    table = make_table(job.selections, job.config.features)
    plan = make_plan(table, job.config)
    arrays = find_arrays(table)
    look_up = LookUp(table, arrays, plan.frames, job.config)
    maps = ShardMaps([selection.dataset for selection in table.selections])
    slots = Slots(memory, job.ring)
    filler = Filler(table, arrays, maps, job.config, slots.reading)
    steps = plan.steps(job.position, job.world_size)
    own_steps = islice(steps, job.reader, None, job.config.readers)
    free = list(range(job.ring.slots))
    buffers = [slots.buffer(slot) for slot in free]
    sender = FilledSender(connection, most=max(1, int(job.ring.slots * REPORTED_PROPORTION)))
    try:
        for step, contents in look_up_steps(own_steps, look_up, job.rank):
            slot, shape = take_slot(free, connection, sender), contents.shape
            began = time.perf_counter()
            maps.enter(step, job.rank, plan)
            filler.fill(contents, shape.arrays(buffers[slot]))
            filled = Filled(slot, shape.size, step.position, step.dropped, step.repeated)
            sender.add(filled, took_s=time.perf_counter() - began)
    finally:
        sender.send()


def take_slot(free: list[int], connection: socket.socket, sender: FilledSender) -> int:
    """Return a free slot; if there is none, report all filled ones and wait for one.

    The slot that was returned last is the most likely to be in the processor's cache.
    """
    if not free:
        sender.send()
    free.extend(receive_slots(connection, wait=not free))
    return free.pop()


def look_up_steps(
    steps: Iterator[Step], look_up: LookUp, rank: int
) -> Iterator[tuple[Step, Contents]]:
    """Yield steps with the contents of their batches, looked up for several steps together.

    A large copy evicts Python's code from the processor's caches, so Python is slow after one.
    """
    while several := list(islice(steps, LOOK_UP_STEPS)):
        batches = [step.batches[rank] for step in several]
        contents = look_up.find(batches, [step.epoch for step in several])
        yield from zip(several, contents, strict=True)


def main() -> None:
    """Run the job that is given on standard input."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    with suppress(EOFError, ConnectionError):  # raised when the parent has closed the connection
        try:
            run_job(pickle.load(sys.stdin.buffer), connection, int(sys.argv[2]))
        except AalbertError as error:
            send_failure(connection, Failure(type(error), str(error)))
            # Stay until the parent has read everything.
            while True:
                receive_slots(connection, wait=True)
