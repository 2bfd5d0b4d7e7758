"""What a reader and the training loop tell each other: few bytes over a socket.

The training loop waits while it reads one, so nothing is pickled but the error that ends a reader.
"""

import pickle
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aalbert.shards.loading.batch_shape import BatchSize

# A record. Slot, size of the batch, position, dropped and repeated utterances.
FILLED = struct.Struct("<9q")
# Stands in place of a slot, before the number of records that a pickled failure takes.
FAILED = -1
MOST_AT_ONCE = 64
MOST_BYTES_OF_SLOTS = 4096
# A batch that took longer is told of at once: its end is worth more than the time to tell of it.
LONG_S = 0.002


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
