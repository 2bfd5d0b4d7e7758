"""Reader processes as the training loop sees them: batches, in order, ready when it asks."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import weakref
from collections import deque
from dataclasses import replace

import torch

from aalbert.errors import AalbertError, ReaderDiedError
from aalbert.shards.loading.batch import Batch, make_batch
from aalbert.shards.loading.batch_shape import BatchShape
from aalbert.shards.loading.reader_process import ReaderJob
from aalbert.shards.loading.shared_slots import (
    Failure,
    Filled,
    Lending,
    Slots,
    make_shared_memory,
    receive,
    send_slots,
)
from aalbert.shards.loading.utterance_table import UtteranceTable

GRACE_S = 2.0
# A reader is woken when this share of its slots can be filled again: to wake it takes longer than
# all else that is done for a batch.
WAKING_SHARE = 0.6
PROGRAM = "from aalbert.shards.loading.reader_process import main; main()"
HINTS = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGBUS: " (was the file cut off while it was read, or its disk taken away?)",
}


class ReadAhead:
    """Reader processes from a position on, each with a ring of slots of its own."""

    def __init__(self, table: UtteranceTable, job: ReaderJob) -> None:
        self._readers = [
            Reader(table, replace(job, turn=turn)) for turn in range(job.config.readers)
        ]
        self._turn = 0

    def next(self) -> tuple[Batch, Filled]:
        """Return the next batch, and what its reader said of it."""
        reader = self._readers[self._turn]
        self._turn = (self._turn + 1) % len(self._readers)
        return reader.next()

    def close(self) -> None:
        """End the processes. Batches that were given stay as they are."""
        for reader in self._readers:
            reader.close()


class Reader:
    """One reader process and its ring."""

    def __init__(self, table: UtteranceTable, job: ReaderJob) -> None:
        self._table = table
        self._config = job.config
        memory = make_shared_memory(job.ring.bytes)
        ours, theirs = socket.socketpair()
        self._process = start_process(theirs.fileno(), memory)
        theirs.close()
        self._connection = ours
        self.close = weakref.finalize(self, end_process, self._process, self._connection)
        self._slots = Slots(memory, job.ring)
        os.close(memory)
        self._lending = Lending(self._slots)
        # One slot is left to be filled, however many batches are kept.
        self._most_held = job.ring.slots - 1
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            pin(self._slots)
        self._messages: deque[Filled | Failure] = deque()
        self._ready: deque[tuple[Batch, Filled] | Failure] = deque()
        self._waking = max(1, int(job.ring.slots * WAKING_SHARE))
        self._hand_over(job)

    def next(self) -> tuple[Batch, Filled]:
        """Return the next batch of this reader, and what it said of it.

        Raises the error that ended the reader, or `ReaderDiedError` when it was killed.
        """
        try:
            if not self._ready:
                self._take_all()
            if self._lending.returned >= self._waking:
                self._give_back()
        except (EOFError, ConnectionError):
            raise self._death() from None
        ready = self._ready.popleft()
        if isinstance(ready, Failure):
            self.close()
            raise ready.kind(ready.text)
        return ready

    def _take_all(self) -> None:
        """Take all batches that are ready, or wait for one.

        Together they take little longer than one: what slows Python down between two steps is
        that caches have forgotten its code.
        """
        if not self._messages:
            self._messages += receive(self._connection, wait=False)
        if not self._messages:
            # The reader may have no slot left while copies from all of them are under way.
            self._give_back(wait=True)
            self._messages += receive(self._connection, wait=True)
        while self._messages and (not self._ready or self._lending.held < self._most_held):
            message = self._messages.popleft()
            if isinstance(message, Failure):
                self._ready.append(message)
            else:
                self._ready.append((self._take(message), message))

    def _give_back(self, *, wait: bool = False) -> None:
        if free := self._lending.take_back(wait=wait):
            send_slots(self._connection, free)

    def _take(self, filled: Filled) -> Batch:
        """Return a batch over the slot; over a copy of it when hardly a slot is left to fill."""
        scarce = self._lending.held >= self._most_held
        buffer, lease = self._lending.lend(filled.slot)
        targets = self._config.targets
        shape = BatchShape(filled.size, self._table.dims, self._config.order.packed)
        if scarce:
            return make_batch(buffer[: shape.bytes].copy(), shape, targets)
        return make_batch(buffer, shape, targets, lease)

    def _hand_over(self, job: ReaderJob) -> None:
        """Give the job to the process."""
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stream:
                pickle.dump(job, stream)
        except BrokenPipeError:
            raise self._death() from None

    def _death(self) -> AalbertError:
        """Return the error that says what the process died of, and where."""
        code = self._process.wait(GRACE_S)
        how = f"with exit code {code}"
        if code < 0:
            number = signal.Signals(-code)
            how = f"by {number.name}{HINTS.get(number, '')}"
        place = self._table.describe(int(self._slots.reading[0]))
        return ReaderDiedError(
            f"the process that reads ahead was ended {how} at {place}; start again with --resume"
        )


def start_process(connection: int, memory: int) -> "subprocess.Popen[bytes]":
    """Start a reader that holds these descriptors.

    It is a program of its own: spawned by `multiprocessing`, it would run the user's script
    again, and forked, it would inherit locks of other threads and a GPU it cannot use.
    """
    # What this process can import, it can too.
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(connection), str(memory)],
        pass_fds=(connection, memory),
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def end_process(process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
    """End a reader: it does so itself when its connection is closed, unless it hangs."""
    connection.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pin(slots: Slots) -> None:
    """Let the GPU copy from the slots by itself (page-locked memory)."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = slots.address
    torch.cuda.check_error(int(runtime.cudaHostRegister(address, slots.size.bytes, 0)))
    weakref.finalize(slots, runtime.cudaHostUnregister, address)
