"""Slots of memory that two processes share, and the messages by which they change hands.

One process fills slots, the other lends them out. The training loop waits while it reads a
message, so these are few bytes, and nothing is pickled but the error that ends a reader.
"""

import mmap
import os
import pickle
import socket
import struct
import sys
import tempfile
import weakref
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aalbert.shards.loading.batch_shape import BatchSize

PAGE = mmap.PAGESIZE
# A record. Slot, size of the batch, position, dropped and repeated utterances.
FILLED = struct.Struct("<9q")
# Stands in place of a slot, before the number of records that a pickled failure takes.
FAILED = -1
MOST_AT_ONCE = 64
MOST_BYTES_OF_SLOTS = 4096
# A batch that took longer is told of at once: its end is worth more than the time to tell of it.
LONG_S = 0.002


@dataclass(frozen=True)
class RingSize:
    """How many slots, and the bytes of each."""

    slots: int
    slot_bytes: int

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next, in whole pages."""
        return -(-self.slot_bytes // PAGE) * PAGE

    @property
    def bytes(self) -> int:
        """Bytes of the ring: a page for the entry that is being read, and the slots."""
        return PAGE + self.slots * self.stride


def make_shared_memory(size: int) -> int:
    """Return the descriptor of new memory that ends with the last process that holds it.

    It has no name, so nothing is left behind when processes are killed, and it does not count
    against the small `/dev/shm` of containers.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("aalbert-batches", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as stream:
            descriptor = os.dup(stream.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Slots:
    """The memory of a ring, as either process sees it."""

    def __init__(self, descriptor: int, size: RingSize) -> None:
        self.size = size
        self._memory = np.frombuffer(mmap.mmap(descriptor, size.bytes), np.uint8)

    @property
    def reading(self) -> NDArray[np.int64]:
        """The entry that is being read, `(1,)`."""
        return self._memory[:8].view(np.int64)

    @property
    def address(self) -> int:
        """Where the memory begins in this process."""
        return self._memory.ctypes.data

    def buffer(self, slot: int) -> NDArray[np.uint8]:
        """Return the bytes of a slot as an array of its own."""
        start = PAGE + slot * self.size.stride
        return self._memory[start : start + self.size.stride]


@dataclass(eq=False, slots=True)
class Lease:
    """A slot that is lent out; `copies` are copies from it to a device, which may be under way."""

    slot: int
    copies: list[Any] = field(default_factory=list)

    def is_over(self) -> bool:
        """Say whether nothing reads the slot any more."""
        return all(copy.query() for copy in self.copies)

    def wait(self) -> None:
        """Wait until nothing reads the slot any more."""
        for copy in self.copies:
            copy.synchronize()


class Lending:
    """Which slots are lent out. A slot comes back when the array that was lent is gone."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._held: dict[int, weakref.ref[Any]] = {}
        self._returned: deque[Lease] = deque()

    def lend(self, slot: int) -> tuple[NDArray[np.uint8], Lease]:
        """Return the bytes of a slot, and the lease that ends with this array.

        NumPy's views of it do not keep it, what was made by `torch.frombuffer` does.
        """
        buffer, lease = self.slots.buffer(slot), Lease(slot)
        self._held[slot] = weakref.ref(buffer, partial(self._end, lease))
        return buffer, lease

    def _end(self, lease: Lease, _: "weakref.ref[Any]") -> None:
        del self._held[lease.slot]
        self._returned.append(lease)

    @property
    def held(self) -> int:
        """Slots that are lent out and have not come back."""
        return len(self._held)

    @property
    def returned(self) -> int:
        """Slots that have come back, and have not been taken back."""
        return len(self._returned)

    def take_back(self, *, wait: bool = False) -> list[int]:
        """Return the slots that can be filled again.

        With `wait`, where all that came back are being copied from, wait for the first of them.
        """
        free: list[int] = []
        for _ in range(len(self._returned)):
            lease = self._returned.popleft()
            if lease.is_over():
                free.append(lease.slot)
            else:
                self._returned.append(lease)
        if wait and not free and self._returned:
            self._returned[0].wait()
            return self.take_back()
        return free


class Filled(NamedTuple):
    """What the filling process says of a slot.

    `position` is that of the loader after the batch; `dropped` and `repeated` count utterances
    at the end of an epoch.
    """

    slot: int
    size: BatchSize
    position: int
    dropped: int
    repeated: int


class Failure(NamedTuple):
    """The error that ended the filling process."""

    kind: type[Exception]
    text: str


class Notices:
    """Says which slots have been filled, of up to `most` at once while that goes fast.

    To be told wakes the training loop, which takes both ends longer than all else that is said.
    """

    def __init__(self, connection: socket.socket, most: int) -> None:
        self._connection = connection
        self._most = most
        self._unsent: list[Filled] = []

    def add(self, filled: Filled, took_s: float) -> None:
        """Say that a slot holds a batch, together with the next ones, or now if it took long."""
        self._unsent.append(filled)
        if len(self._unsent) == self._most or took_s > LONG_S:
            self.send()

    def send(self) -> None:
        """Say what has not been said."""
        if self._unsent:
            send_filled(self._connection, self._unsent)
            self._unsent.clear()


def send_filled(connection: socket.socket, several: Iterable[Filled]) -> None:
    """Say that slots hold batches."""
    packed = [FILLED.pack(slot, *size, *rest) for slot, size, *rest in several]
    connection.sendall(b"".join(packed))


def send_failure(connection: socket.socket, failure: Failure) -> None:
    """Say what ended the filling process; there are no more messages after this one."""
    text = pickle.dumps(failure)
    records = -(-len(text) // FILLED.size)
    head = FILLED.pack(FAILED, records, *[0] * 7)
    connection.sendall(head + text.ljust(records * FILLED.size, b"\0"))


def receive(connection: socket.socket, *, wait: bool) -> list[Filled | Failure]:
    """Return all messages that have come, or, with `wait`, that come first.

    Raises `EOFError` when there never will be one.
    """
    data = receive_some(connection, MOST_AT_ONCE * FILLED.size, wait=wait)
    data += receive_exactly(connection, -len(data) % FILLED.size)
    messages: list[Filled | Failure] = []
    for slot, *size, position, dropped, repeated in FILLED.iter_unpack(data):
        if slot == FAILED:
            text = data[(len(messages) + 1) * FILLED.size :]
            text += receive_exactly(connection, size[0] * FILLED.size - len(text))
            return [*messages, pickle.loads(text)]
        messages.append(Filled(slot, BatchSize(*size), position, dropped, repeated))
    return messages


def receive_some(connection: socket.socket, most: int, *, wait: bool) -> bytes:
    """Return what has come, or, with `wait`, comes first; `EOFError` when nothing ever will."""
    try:
        data = connection.recv(most, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
    if not data:
        raise EOFError
    return data


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Wait for so many bytes; `EOFError` when the other end is closed before."""
    data = connection.recv(count, socket.MSG_WAITALL) if count else b""
    if len(data) < count:
        raise EOFError
    return data


def send_slots(connection: socket.socket, slots: Sequence[int]) -> None:
    """Say which slots can be filled again."""
    connection.sendall(array("H", slots).tobytes())


def receive_slots(connection: socket.socket, *, wait: bool) -> list[int]:
    """Return the slots that can be filled again, by now or after waiting for one.

    Raises `EOFError` when the other end is closed.
    """
    slots = array("H")
    slots.frombytes(receive_some(connection, MOST_BYTES_OF_SLOTS, wait=wait))
    return slots.tolist()
