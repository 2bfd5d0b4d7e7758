import time
from threading import Lock

import pytest
import torch

from aalbert.models.static_batches import (
    FRAMES_AT_ONCE,
    StaticBatch,
    StaticShapes,
    compute_each,
    static_batches,
)


@pytest.mark.parametrize(("frames", "at_once"), [(100, 4), (FRAMES_AT_ONCE // 2, 2), (70_000, 1)])
def test_batches_are_computed_at_once_by_threads_and_as_memory_allows(
    frames: int, at_once: int
) -> None:
    """By `at_once` of four threads, and given back in their order."""
    utterances = [(number, torch.zeros(frames, 1)) for number in range(7)]
    lock, running, most = Lock(), 0, 0

    def compute(batch: StaticBatch[int]) -> tuple[int, bool]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return batch.items[0], torch.is_grad_enabled()

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        batches = static_batches(utterances, StaticShapes())
        found = [result for _, result in compute_each(batches, compute, torch.device("cpu"))]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert found == [(number, False) for number in range(7)]
    assert most == at_once
