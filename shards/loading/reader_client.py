"""The training loop's side of reader processes: their batches, in order and ahead of time."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import warnings
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace

import torch

from aalbert.common.isolation import import_path
from aalbert.common.signals import blocked_signals
from aalbert.errors import AalbertError, AalbertWarning, ReaderDiedError
from aalbert.shards.loading.batch import Batch, make_batch
from aalbert.shards.loading.batch_shape import BatchShape
from aalbert.shards.loading.reader_process import ReaderJob
from aalbert.shards.loading.shared_slots import (
    Failure,
    Filled,
    SlotLender,
    Slots,
    make_shared_memory,
    receive,
    send_slots,
)
from aalbert.shards.loading.utterance_table import UtteranceTable

GRACE_S = 2.0
# A reader is woken when this proportion of its slots is free: waking it takes longer than
# everything else that is done for a batch.
WAKING_PROPORTION = 0.6
# The descriptors of the connection and the memory are followed by the folders to import from.
PROGRAM = """\
import sys
sys.path[:] = sys.argv[3:]
from aalbert.shards.loading.reader_process import main
main()
"""
HINTS = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGBUS: " (was the file cut off while it was read, or its disk taken away?)",
}


class ReadAhead:
    """A source of batches from reader processes, each with its own ring of slots."""

    def __init__(self, table: UtteranceTable, job: ReaderJob) -> None:
        self._readers = [
            Reader(table, replace(job, reader=number)) for number in range(job.config.readers)
        ]
        self._next_reader = 0

    def next(self) -> tuple[Batch, Filled]:
        """Return the next batch, and its reader's message about it."""
        reader = self._readers[self._next_reader]
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return reader.next()

    def close(self) -> None:
        """End the processes. Batches that were returned before remain valid."""
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
        self._lender = SlotLender(self._slots)
        # One slot always remains to be filled, however many batches are kept.
        self._most_lent = job.ring.slots - 1
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            pin(self._slots)
        self._messages: deque[Filled | Failure] = deque()
        self._ready: deque[tuple[Batch, Filled] | Failure] = deque()
        self._waking_slots = max(1, int(job.ring.slots * WAKING_PROPORTION))
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stream:
                pickle.dump(job, stream)
        except BrokenPipeError:
            raise self._death_error() from None

    def next(self) -> tuple[Batch, Filled]:
        """Return the next batch of this reader, and its message about the batch.

        Raises the error that ended the reader, or `ReaderDiedError` when it was killed.
        """
        try:
            if not self._ready:
                self._receive_batches()
            if self._lender.returned >= self._waking_slots:
                self._send_free_slots()
        except (EOFError, ConnectionError):
            raise self._death_error() from None
        ready = self._ready.popleft()
        if isinstance(ready, Failure):
            self.close()
            raise ready.kind(ready.text)
        return ready

    def _receive_batches(self) -> None:
        """Receive all batches that are ready, or wait for one.

        All together take little longer than one: between two steps Python's code drops out of the
        processor's caches, and loading it again is the slow part.
        """
        if not self._messages:
            self._messages += receive(self._connection, wait=False)
        if not self._messages:
            # The reader may have no free slot while copies from all of them are in progress.
            self._send_free_slots(wait=True)
            self._messages += receive(self._connection, wait=True)
        while self._messages and (not self._ready or self._lender.lent < self._most_lent):
            message = self._messages.popleft()
            if isinstance(message, Failure):
                self._ready.append(message)
            else:
                self._ready.append((self._make_batch(message), message))

    def _send_free_slots(self, *, wait: bool = False) -> None:
        if free := self._lender.take_back(wait=wait):
            send_slots(self._connection, free)

    def _make_batch(self, filled: Filled) -> Batch:
        """Return a batch over the slot, or over a copy of it when only one slot is left to fill."""
        scarce = self._lender.lent >= self._most_lent
        buffer, lease = self._lender.lend(filled.slot)
        targets = self._config.targets
        shape = BatchShape(filled.size, self._table.dims, self._config.order.packed)
        if scarce:
            return make_batch(buffer[: shape.bytes].copy(), shape, targets)
        return make_batch(buffer, shape, targets, lease)

    def _death_error(self) -> AalbertError:
        """Return the error with the cause of the process's death and the utterance being read."""
        code = self._process.wait(GRACE_S)
        reason = f"with exit code {code}"
        if code < 0:
            number = signal.Signals(-code)
            reason = f"by {number.name}{HINTS.get(number, '')}"
        utterance = self._table.describe(int(self._slots.reading[0]))
        return ReaderDiedError(
            f"the process that reads ahead was ended {reason} at {utterance}; "
            "start again with --resume"
        )


def start_process(connection: int, memory: int) -> "subprocess.Popen[bytes]":
    """Start a reader process with these open descriptors.

    It is a separate program: spawned by `multiprocessing`, it would run the user's script again,
    and forked, it would inherit locks of other threads and a GPU that it cannot use. It begins with
    the signals blocked that this process handles for its whole group, before it could ignore them.
    """
    # Not with -I, which would leave out packages that a user installed for himself.
    with blocked_signals():
        return subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(connection), str(memory), *import_path()],
            pass_fds=(connection, memory),
            stdin=subprocess.PIPE,
        )


def end_process(process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
    """Close the connection, which ends a reader, and kill the reader if it hangs."""
    connection.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pin(slots: Slots) -> None:
    """Page-lock the memory of the slots, so that the GPU copies from it asynchronously.

    Where that is refused, as by a limit on locked memory, a warning says that copies wait.
    """
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address, size = slots.address, slots.size.bytes
    code = int(runtime.cudaHostRegister(address, size, 0))
    if code == 0:
        weakref.finalize(slots, unpin, address)
        return
    # The runtime keeps an error until it is read, and the next operation would be blamed for it.
    with suppress(RuntimeError):
        torch.zeros(1, device="cuda")
    reason = runtime.cudaGetErrorString(runtime.cudaError(code))
    warnings.warn(
        f"{size / 2**20:,.0f} MiB of shared memory could not be locked for the GPU ({reason}): "
        "training waits while a batch is copied; is there a limit on locked memory?",
        AalbertWarning,
        stacklevel=2,
    )


def unpin(address: int) -> None:
    """Unlock memory, from which copies may be in progress."""
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaHostUnregister(address)  # type: ignore[no-untyped-call]
