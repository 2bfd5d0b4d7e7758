"""The messages between a reader and the training loop arrive as they were sent."""

import socket
import threading
from collections.abc import Iterator

import pytest

from aalbert.errors import IntegrityError
from aalbert.shards.loading.batch_shape import BatchSize
from aalbert.shards.loading.shared_slots import (
    FILLED,
    LONG_S,
    MOST_RECORDS,
    Failure,
    Filled,
    FilledSender,
    receive,
    receive_slots,
    send_failure,
    send_filled,
    send_slots,
)

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def filled(number: int) -> Filled:
    size = BatchSize(number, 2**31 + number, 3, 2**60, 5)
    return Filled(number % 7, size, 10 * number, dropped=number % 2, repeated=0)


def test_messages_are_received_in_order_and_all_at_once(ends: Ends) -> None:
    sent = [filled(number) for number in range(MOST_RECORDS + 3)]
    send_filled(ends[0], sent[:2])
    send_filled(ends[0], sent[2:])
    assert receive(ends[1], wait=False) == sent[:MOST_RECORDS]
    assert receive(ends[1], wait=True) == sent[MOST_RECORDS:]
    assert receive(ends[1], wait=False) == []


@pytest.mark.parametrize("before", [0, 1, MOST_RECORDS])
@pytest.mark.parametrize("letters", [1, 10_000])
def test_a_failure_comes_after_the_batches_before_it(ends: Ends, before: int, letters: int) -> None:
    """Whatever its size, and wherever it is split."""
    failure = Failure(IntegrityError, "é" * letters)
    sent = [filled(number) for number in range(before)]
    send_filled(ends[0], sent)
    send_failure(ends[0], failure)
    found: list[Filled | Failure] = []
    while len(found) <= before:
        found += receive(ends[1], wait=True)
    assert found == [*sent, failure]


def test_slots_that_are_filled_fast_are_reported_together(ends: Ends) -> None:
    sender = FilledSender(ends[0], most=3)
    counts = []
    for number in range(5):
        sender.add(filled(number), took_s=0.0)
        counts.append(len(receive(ends[1], wait=False)))
    assert counts == [0, 0, 3, 0, 0]
    for _ in range(2):
        sender.send()
    assert receive(ends[1], wait=False) == [filled(3), filled(4)]


def test_a_slot_that_took_long_is_reported_immediately(ends: Ends) -> None:
    sender = FilledSender(ends[0], most=3)
    sender.add(filled(0), took_s=0.0)
    sender.add(filled(1), took_s=1.5 * LONG_S)
    assert receive(ends[1], wait=False) == [filled(0), filled(1)]


def test_a_message_in_pieces_is_reassembled(ends: Ends) -> None:
    data = FILLED.pack(*range(9))
    ends[0].sendall(data[:30])
    rest = threading.Timer(0.05, ends[0].sendall, [data[30:]])
    rest.start()
    [message] = receive(ends[1], wait=True)
    rest.join()
    assert message == Filled(0, BatchSize(1, 2, 3, 4, 5), 6, 7, 8)


@pytest.mark.parametrize("wait", [True, False])
def test_a_closed_connection_is_distinguished_from_nothing_to_read(ends: Ends, wait: bool) -> None:
    assert receive(ends[1], wait=False) == []
    ends[0].sendall(b"cut")
    ends[0].close()
    for _ in range(2):
        with pytest.raises(EOFError):
            receive(ends[1], wait=wait)
    with pytest.raises(EOFError):
        receive_slots(ends[1], wait=wait)


def test_slots_are_received_as_they_were_sent(ends: Ends) -> None:
    assert receive_slots(ends[1], wait=False) == []
    send_slots(ends[0], [3, 0, 65_535])
    send_slots(ends[0], [1])
    assert receive_slots(ends[1], wait=True) == [3, 0, 65_535, 1]
