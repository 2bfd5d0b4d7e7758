"""Batches for the loaders without batching of their own, for the peers in `benchmarks.loader`.

Everything here is to their advantage: a feature is viewed, not copied, until it is written into its
batch; a batch is assembled in the memory that a `DataLoader` passes on; workers are kept from
epoch to epoch; and a padded batch has utterances of similar length.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

DIMS = 80
FRAMES_PER_BATCH = 12_000
POOL_BATCHES = 50
PREFETCH = 12

Features = NDArray[np.float16]
Numbers = NDArray[np.int64]
Collated = tuple[Tensor, Numbers]


class Batch(NamedTuple):
    """Features of several utterances: `(batch, frames, dims)` padded, `(frames, dims)` packed.

    `lengths (batch,)` counts the frames of each; the offsets of a packed batch are their sums.
    """

    features: Tensor
    lengths: Tensor


def cut_batches(frames: Numbers, packed: bool, seed: int) -> list[Numbers]:
    """Return batches of the positions of utterances, whose lengths are `frames`, in random order.

    A batch holds at most `FRAMES_PER_BATCH` frames, padding included, or one longer utterance.
    Padded batches are cut from pools that are sorted by length.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(frames))
    if packed:
        return cut_in_turn(order, frames, packed)
    pools = max(1, round(int(frames.sum()) / (FRAMES_PER_BATCH * POOL_BATCHES)))
    batches = [
        batch
        for pool in np.array_split(order, pools)
        for batch in cut_in_turn(pool[np.argsort(-frames[pool])], frames, packed)
    ]
    return [batches[place] for place in generator.permutation(len(batches))]


def cut_in_turn(order: Numbers, frames: Numbers, packed: bool) -> list[Numbers]:
    """Cut a sequence into batches, each as large as `FRAMES_PER_BATCH` allows."""
    batches: list[list[int]] = [[]]
    held = longest = 0
    for position in order.tolist():
        length = int(frames[position])
        longest = max(longest, length)
        size = held + length if packed else longest * (len(batches[-1]) + 1)
        if size > FRAMES_PER_BATCH and batches[-1]:
            batches.append([])
            held, longest = 0, length
        held += length
        batches[-1].append(position)
    return [np.array(batch) for batch in batches if batch]


def collate(arrays: list[Features], packed: bool) -> Collated:
    """Copy features into one batch; its lengths stay in NumPy, which is faster to pass on."""
    lengths = np.array([len(array) for array in arrays])
    shape = (int(lengths.sum()),) if packed else (len(arrays), int(lengths.max()))
    features = zeros((*shape, DIMS))
    if packed:
        np.concatenate(arrays, out=features.numpy())
        return features, lengths
    for padded, array in zip(features.numpy(), arrays, strict=True):
        padded[: len(array)] = array
    return features, lengths


def zeros(shape: tuple[int, ...]) -> Tensor:
    """Return zeros in float16; in a worker in shared memory, which saves a copy to it.

    PyTorch's own `default_collate` does the same; a new segment holds zeros.
    """
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=torch.float16)
    storage: Any = torch.UntypedStorage
    shared = storage._new_shared(2 * int(np.prod(shape)))
    return torch.empty(0, dtype=torch.float16).set_(shared).resize_(shape)


class Pooled(IterableDataset[Collated]):
    """Batches of a stream: cut from pools of `POOL_BATCHES` if padded, in sequence if packed.

    Each call of `epoch` returns the features of the next epoch, in a worker its part of them.
    """

    def __init__(self, epoch: Callable[[], Iterable[Features]], packed: bool) -> None:
        self.epoch = epoch
        self.packed = packed

    def __iter__(self) -> Iterator[Collated]:
        """Yield the batches of one epoch."""
        wanted = FRAMES_PER_BATCH if self.packed else FRAMES_PER_BATCH * POOL_BATCHES
        pool: list[Features] = []
        held = 0
        for array in self.epoch():
            if pool and held + len(array) > wanted:
                yield from self._batches(pool)
                pool, held = [], 0
            pool.append(array)
            held += len(array)
        if pool:
            yield from self._batches(pool)

    def _batches(self, pool: list[Features]) -> Iterator[Collated]:
        if self.packed:
            yield collate(pool, self.packed)
            return
        frames = np.array([len(array) for array in pool])
        for batch in cut_batches(frames, self.packed, seed=0):
            yield collate([pool[position] for position in batch.tolist()], self.packed)


class Picked:
    """Batches of a source that reads by index, as `Plan` lists them."""

    def __init__(self, read: Callable[[int], Features], packed: bool) -> None:
        self.read = read
        self.packed = packed

    def __getitem__(self, rows: Numbers) -> Collated:
        return collate([self.read(row) for row in rows.tolist()], self.packed)


class Plan:
    """The indices of the utterances in every batch, planned anew for each epoch."""

    def __init__(self, frames: Numbers, packed: bool) -> None:
        self.frames = frames
        self.packed = packed
        self.epoch = 0

    def __iter__(self) -> Iterator[Numbers]:
        """Plan the next epoch."""
        self.epoch += 1
        return iter(cut_batches(self.frames, self.packed, self.epoch))


class Batches:
    """The batches of `Pooled`, or of `Picked` and its `Plan`, through a `DataLoader`.

    With `pinned` they are copied once more, to memory from which a GPU copies by itself.
    """

    def __init__(
        self, dataset: Any, workers: int, plan: Plan | None = None, *, pinned: bool = False
    ) -> None:
        self.loader: DataLoader[Collated] = DataLoader(
            dataset,
            batch_size=None,
            sampler=plan,
            collate_fn=unchanged,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            pin_memory=pinned,
        )

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for features, lengths in self.loader:
            yield Batch(features, torch.from_numpy(lengths))


def unchanged(batch: Any) -> Any:
    """Return a batch unchanged: PyTorch would also convert the lengths to a shared tensor."""
    return batch


def as_features(payload: Any, offset: int = 0) -> Features:
    """Return the bytes of a feature as `(frames, dims)`, without a copy."""
    return np.frombuffer(payload, np.float16, offset=offset).reshape(-1, DIMS)
