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

from aalbert.common.signals import leave_signals_to_the_parent
from aalbert.errors import AalbertError
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import OwnBatch, make_plan
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

# The number of batches whose contents are looked up together.
LOOK_UP_BATCHES = 16
# The largest proportion of the slots that are reported in one message.
REPORTED_PROPORTION = 0.3


@dataclass(frozen=True, kw_only=True)
class ReaderJob:
    """The job of one reader: every `readers`-th of the batches of the numbers `own` in a step.

    It begins with the `reader`-th after `position`.
    """

    selections: tuple[Selection, ...]
    config: LoaderConfig
    position: int
    batches_per_step: int
    own: range
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
    batches = plan.own_batches(job.position, job.batches_per_step, job.own)
    batches = islice(batches, job.reader, None, job.config.readers)
    free = list(range(job.ring.slots))
    buffers = [slots.buffer(slot) for slot in free]
    sender = FilledSender(connection, most=max(1, int(job.ring.slots * REPORTED_PROPORTION)))
    try:
        for batch, contents in look_up_batches(batches, look_up):
            slot, shape = take_slot(free, connection, sender), contents.shape
            began = time.perf_counter()
            maps.enter(batch, plan)
            filler.fill(contents, shape.arrays(buffers[slot]))
            filled = Filled(slot, shape.size, batch.position, batch.dropped, batch.repeated)
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


def look_up_batches(
    batches: Iterator[OwnBatch], look_up: LookUp
) -> Iterator[tuple[OwnBatch, Contents]]:
    """Yield batches with their contents, looked up for several together.

    A large copy evicts Python's code from the processor's caches, so Python is slow after one.
    """
    while several := list(islice(batches, LOOK_UP_BATCHES)):
        contents = look_up.find(
            [batch.entries for batch in several], [batch.epoch for batch in several]
        )
        yield from zip(several, contents, strict=True)


def main() -> None:
    """Run the job that is given on standard input."""
    # This process ends with its parent.
    leave_signals_to_the_parent()
    connection = socket.socket(fileno=int(sys.argv[1]))
    with suppress(EOFError, ConnectionError):  # raised when the parent has closed the connection
        try:
            run_job(pickle.load(sys.stdin.buffer), connection, int(sys.argv[2]))
        except AalbertError as error:
            send_failure(connection, Failure(type(error), str(error)))
            # Stay until the parent has read everything.
            while True:
                receive_slots(connection, wait=True)
