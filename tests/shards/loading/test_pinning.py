"""The memory that a GPU copies batches from, with a runtime of CUDA that is only imagined."""

import gc
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aalbert.errors import AalbertWarning
from aalbert.shards.loading.reader_client import pin
from aalbert.shards.loading.shared_slots import RingSize, Slots, make_shared_memory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the runtime is asked for; it can lock a mebibyte at most."""
    asked: list[tuple[Any, ...]] = []

    def register(address: int, size: int, flags: int) -> int:
        asked.append(("register", address, size))
        return 2 if size > 2**20 else 0

    runtime = SimpleNamespace(
        cudaHostRegister=register,
        cudaHostUnregister=lambda address: asked.append(("unregister", address)),
        cudaGetErrorString=lambda error: f"{error} out of memory",
        cudaError=lambda code: f"error {code}:",
    )
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: asked.append(("wait",)))
    return asked


def make_slots(slot_bytes: int) -> Slots:
    size = RingSize(slots=3, slot_bytes=slot_bytes)
    memory = make_shared_memory(size.bytes)
    try:
        return Slots(memory, size)
    finally:
        os.close(memory)


def test_the_memory_is_locked_as_long_as_there_are_slots(calls: list[tuple[Any, ...]]) -> None:
    slots = make_slots(1000)
    address, size = slots.address, slots.size.bytes
    pin(slots)
    assert calls == [("register", address, size)]
    del slots
    gc.collect()
    # A copy may still be in progress.
    assert calls[1:] == [("wait",), ("unregister", address)]


def test_where_memory_cannot_be_locked_a_warning_says_what_that_costs(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_error(*_: Any, **__: Any) -> None:
        calls.append(("read error",))
        raise RuntimeError("CUDA error: out of memory")

    slots = make_slots(2**20)
    monkeypatch.setattr(torch, "zeros", read_error)
    with pytest.warns(AalbertWarning) as caught:
        pin(slots)
    assert str(caught[0].message) == (
        "3 MiB of shared memory could not be locked for the GPU (error 2: out of memory): "
        "training waits while a batch is copied; is there a limit on locked memory?"
    )
    assert ("read error",) in calls
    del slots
    gc.collect()
    assert [name for name, *_ in calls] == ["register", "read error"]
