"""Batches whose shape depends on an utterance's own length alone.

Matrix products and attention may round differently in batches of other shapes. Here an
utterance is always in a batch of the same shape, whatever the other utterances are, so its
hidden states are bit-identical on the same machine: in every evaluation and prediction
(`compute_each`), and in every extraction with as many threads.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from aalbert.errors import require

Item = TypeVar("Item")
Result = TypeVar("Result")
# Utterances are padded to a multiple of this many encoder frames.
FRAME_MULTIPLE = 64
# A GPU gets about 80 s of speech per batch; on a CPU, batches of one utterance are as fast.
CUDA_BATCH_FRAMES = 8192
CPU_BATCH_FRAMES = 1
# Batches that are computed at once on a CPU have some 10 minutes of speech, or are one alone: the
# hidden states of every layer are in memory.
FRAMES_AT_ONCE = 2**16


@dataclass(frozen=True, kw_only=True)
class StaticShapes:
    """Padding of utterances, and the size of batches of about `batch_frames` frames.

    On a CPU no more than `frames_at_once` are computed at once, unless one batch has more.
    """

    frames_stacked: int = 1
    batch_frames: int = CPU_BATCH_FRAMES
    frames_at_once: int = FRAMES_AT_ONCE

    def __post_init__(self) -> None:
        require(self.batch_frames > 0, f"batch_frames {self.batch_frames} must be above 0")

    @classmethod
    def on(cls, device: torch.device, frames_stacked: int) -> "StaticShapes":
        """Return the shapes for a device: about 80 s a batch on a GPU, one utterance on a CPU."""
        frames = CUDA_BATCH_FRAMES if device.type == "cuda" else CPU_BATCH_FRAMES
        return cls(frames_stacked=frames_stacked, batch_frames=frames)

    def padded(self, frames: int) -> int:
        """Return the padded length of an utterance in frames."""
        multiple = FRAME_MULTIPLE * self.frames_stacked
        return -(-max(1, frames) // multiple) * multiple

    def batch_size(self, padded: int) -> int:
        """Return the number of rows of a batch; rows without an utterance are zeros."""
        return max(1, self.batch_frames // padded)


@dataclass(frozen=True)
class StaticBatch(Generic[Item]):
    """Features `(batch, frames, dims)`, their lengths `(batch,)`, and the items they belong to.

    A row without an utterance has the length 1, a frame of zeros.
    """

    items: list[Item]
    features: Tensor
    lengths: Tensor


def static_batches(
    utterances: Iterable[tuple[Item, Tensor]], shapes: StaticShapes
) -> Iterator[StaticBatch[Item]]:
    """Group utterances `(frames, dims)` into batches of one padded length each."""
    waiting: defaultdict[int, list[tuple[Item, Tensor]]] = defaultdict(list)
    for item, features in utterances:
        padded = shapes.padded(len(features))
        waiting[padded].append((item, features))
        if len(waiting[padded]) == shapes.batch_size(padded):
            yield fill(waiting.pop(padded), padded, shapes)
    for padded in sorted(waiting):
        yield fill(waiting[padded], padded, shapes)


def fill(group: list[tuple[Item, Tensor]], padded: int, shapes: StaticShapes) -> StaticBatch[Item]:
    """Put the features of a group into one batch."""
    features = torch.zeros(shapes.batch_size(padded), padded, group[0][1].shape[1])
    lengths = torch.ones(len(features), dtype=torch.int64)
    for row, (_, utterance) in enumerate(group):
        features[row, : len(utterance)] = utterance
        lengths[row] = len(utterance)
    return StaticBatch([item for item, _ in group], features, lengths)


def compute_each(
    batches: Iterable[StaticBatch[Item]],
    compute: Callable[[StaticBatch[Item]], Result],
    device: torch.device,
    frames_at_once: int = FRAMES_AT_ONCE,
) -> Iterator[tuple[StaticBatch[Item], Result]]:
    """Yield batches in order, with what `compute` makes of each without gradient.

    On a CPU a product rounds differently with another number of threads. There every batch has one
    thread, and as many batches are computed at once as PyTorch has threads: the numbers do not
    depend on how many these are.
    """
    if device.type != "cpu":
        for batch in batches:
            with torch.no_grad():
                result = compute(batch)
            yield batch, result
        return
    threads, frames = torch.get_num_threads(), 0
    # Threads that begin to compute after this have one each.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[StaticBatch[Item], Future[Result]]] = deque()
    try:
        for batch in batches:
            frames += batch.features.shape[:2].numel()
            while waiting and (len(waiting) > threads or frames > frames_at_once):
                done, future = waiting.popleft()
                yield done, future.result()
                frames -= done.features.shape[:2].numel()
            # Whether gradients are kept is a setting of a thread.
            waiting.append((batch, pool.submit(torch.no_grad()(compute), batch)))
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
