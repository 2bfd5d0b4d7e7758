"""Slots of memory that two processes share: one fills them, the other lends them out."""

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
