"""Slots of memory that two processes share: one fills them, the other lends them out."""

import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE


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
        self._memory = mmap.mmap(descriptor, size.bytes)
        self._slot_type = ctypes.c_uint8 * size.stride

    @property
    def reading(self) -> NDArray[np.int64]:
        """The entry that is being read, `(1,)`."""
        return np.frombuffer(self._memory, np.int64, count=1)

    @property
    def address(self) -> int:
        """Where the memory begins in this process."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def buffer(self, slot: int) -> Any:
        """Return the bytes of a slot as an object that lives as long as any view of them."""
        start = PAGE + slot * self.size.stride
        return self._slot_type.from_buffer(self._memory, start)


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
    """Which slots are lent out. A slot comes back when the last array over it is gone."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._held: dict[int, weakref.ref[Any]] = {}
        self._returned: deque[Lease] = deque()

    def lend(self, slot: int) -> tuple[Any, Lease]:
        """Return the bytes of a slot, and the lease that ends with them."""
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
