"""Slots of memory shared by two processes, and the messages that pass them back and forth.

One process fills slots, the other lends them out. The training loop waits while it reads a
message, so messages are a few bytes, and only the error that ends a reader is pickled.
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
# A record: slot, size of the batch, position, dropped and repeated utterances.
FILLED = struct.Struct("<9q")
# The slot number in the record before a pickled failure; the next number is its size in records.
FAILED = -1
MOST_RECORDS = 64
MOST_SLOTS_BYTES = 4096
# A batch that took longer is reported immediately: the time to send a message hardly matters then.
LONG_S = 0.002


@dataclass(frozen=True)
class RingSize:
    """The number of slots, and the bytes of each."""

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
    """Return the descriptor of new shared memory, which is freed with the last process using it.

    It has no name, so nothing remains when processes are killed, and it does not count against
    the small `/dev/shm` of containers.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("aalbert-batches", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as stream:
            descriptor = os.dup(stream.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Slots:
    """The memory of a ring, mapped by either process."""

    def __init__(self, descriptor: int, size: RingSize) -> None:
        self.size = size
        self._memory = np.frombuffer(mmap.mmap(descriptor, size.bytes), np.uint8)

    @property
    def reading(self) -> NDArray[np.int64]:
        """The entry that is being read, `(1,)`."""
        return self._memory[:8].view(np.int64)

    @property
    def address(self) -> int:
        """Address of the memory in this process."""
        return self._memory.ctypes.data

    def buffer(self, slot: int) -> NDArray[np.uint8]:
        """Return the bytes of a slot as a separate array object."""
        start = PAGE + slot * self.size.stride
        return self._memory[start : start + self.size.stride]


@dataclass(eq=False, slots=True)
class Lease:
    """A slot that is lent out; `copies` are events of copies to a device, perhaps in progress."""

    slot: int
    copies: list[Any] = field(default_factory=list)

    def is_over(self) -> bool:
        """Return whether all copies from the slot are complete."""
        return all(copy.query() for copy in self.copies)

    def wait(self) -> None:
        """Wait until all copies from the slot are complete."""
        for copy in self.copies:
            copy.synchronize()


class SlotLender:
    """The slots that are lent out. A slot is returned when the lent array is garbage collected."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._lent: dict[int, weakref.ref[Any]] = {}
        self._returned: deque[Lease] = deque()

    def lend(self, slot: int) -> tuple[NDArray[np.uint8], Lease]:
        """Return the bytes of a slot, and the lease that ends with this array.

        NumPy's views of the array do not keep it alive, tensors of `torch.frombuffer` do.
        """
        buffer, lease = self.slots.buffer(slot), Lease(slot)
        self._lent[slot] = weakref.ref(buffer, partial(self._return, lease))
        return buffer, lease

    def _return(self, lease: Lease, _: "weakref.ref[Any]") -> None:
        del self._lent[lease.slot]
        self._returned.append(lease)

    @property
    def lent(self) -> int:
        """Number of slots that are lent out and have not been returned."""
        return len(self._lent)

    @property
    def returned(self) -> int:
        """Number of slots that have been returned and not yet taken back."""
        return len(self._returned)

    def take_back(self, *, wait: bool = False) -> list[int]:
        """Return the slots that can be filled again.

        With `wait`, when copies from all returned slots are in progress, wait for the first slot.
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
    """The message that a slot holds a batch.

    `position` is the loader's position after the batch; `dropped` and `repeated` count utterances
    at the end of an epoch.
    """

    slot: int
    size: BatchSize
    position: int
    dropped: int
    repeated: int


class Failure(NamedTuple):
    """The message that an error ended the filling process."""

    kind: type[Exception]
    text: str


class FilledSender:
    """Sends messages about filled slots, up to `most` together while filling is fast.

    A message wakes the training loop, which takes both processes longer than all other work on it.
    """

    def __init__(self, connection: socket.socket, most: int) -> None:
        self._connection = connection
        self._most = most
        self._unsent: list[Filled] = []

    def add(self, filled: Filled, took_s: float) -> None:
        """Add a message, to be sent with the next ones, or immediately if filling took long."""
        self._unsent.append(filled)
        if len(self._unsent) == self._most or took_s > LONG_S:
            self.send()

    def send(self) -> None:
        """Send all messages that have not been sent."""
        if self._unsent:
            send_filled(self._connection, self._unsent)
            self._unsent.clear()


def send_filled(connection: socket.socket, several: Iterable[Filled]) -> None:
    """Send messages about filled slots."""
    packed = [FILLED.pack(slot, *size, *rest) for slot, size, *rest in several]
    connection.sendall(b"".join(packed))


def send_failure(connection: socket.socket, failure: Failure) -> None:
    """Send the error that ended the filling process, as the last message."""
    text = pickle.dumps(failure)
    records = -(-len(text) // FILLED.size)
    head = FILLED.pack(FAILED, records, *[0] * 7)
    connection.sendall(head + text.ljust(records * FILLED.size, b"\0"))


def receive(connection: socket.socket, *, wait: bool) -> list[Filled | Failure]:
    """Return all messages that have arrived, or, with `wait`, the first ones that do.

    Raises `EOFError` when the other end is closed.
    """
    data = receive_some(connection, MOST_RECORDS * FILLED.size, wait=wait)
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
    """Return the bytes that have arrived, or, with `wait`, the first ones that do.

    Raises `EOFError` when the other end is closed.
    """
    try:
        data = connection.recv(most, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
    if not data:
        raise EOFError
    return data


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Wait for `count` bytes; raise `EOFError` when the other end is closed before that."""
    data = connection.recv(count, socket.MSG_WAITALL) if count else b""
    if len(data) < count:
        raise EOFError
    return data


def send_slots(connection: socket.socket, slots: Sequence[int]) -> None:
    """Send the slots that can be filled again."""
    connection.sendall(array("H", slots).tobytes())


def receive_slots(connection: socket.socket, *, wait: bool) -> list[int]:
    """Return the slots that have been sent, or, with `wait`, the first ones that are.

    Raises `EOFError` when the other end is closed.
    """
    slots = array("H")
    slots.frombytes(receive_some(connection, MOST_SLOTS_BYTES, wait=wait))
    return slots.tolist()
