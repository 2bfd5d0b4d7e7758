"""Hidden states of a frozen upstream, computed once and cached for all epochs of head training.

A head that averages over frames before any non-linear operation needs only the averages, so only
these are cached: one vector a state and utterance. For other heads every frame is cached. States
are normalised first where the head wants it, which is not linear.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from aalbert.common.files import atomic_write
from aalbert.common.progress import progress_bar
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.finite import require_finite
from aalbert.models.pooling import mean_pool
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import OwnBatch
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Selection
from aalbert.train.downstream.build import DownstreamSetup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.scoring import whole_utterances


@dataclass(frozen=True, eq=False)
class StateCache:
    """The states of utterances end to end, in a file that is mapped into memory.

    `begin` and `count` give the first frame and the number of frames of each row of the dataset
    in them; `stored_frames` is the number of frames of its features.
    """

    path: Path
    begin: Rows
    count: Rows
    stored_frames: Rows

    @cached_property
    def states(self) -> NDArray[np.floating]:
        """The states `(frames, states, width)`."""
        states: NDArray[np.floating] = np.load(self.path, mmap_mode="r")
        return states

    def batch(self, rows: Rows) -> Batch:
        """Return the states of some rows `(batch, frames, states, width)`, padded with zeros."""
        counts = self.count[rows]
        padded = np.zeros((len(rows), int(counts.max()), *self.states.shape[1:]), self.states.dtype)
        for number, (row, count) in enumerate(zip(rows.tolist(), counts.tolist(), strict=True)):
            padded[number, :count] = self.states[self.begin[row] : self.begin[row] + count]
        return Batch(
            features=torch.from_numpy(padded),
            lengths=torch.from_numpy(counts.copy()),
            rows=torch.from_numpy(rows.copy()),
            real_frames=int(self.stored_frames[rows].sum()),
            longest=int(counts.max()),
            squared_frames=int((self.stored_frames[rows] ** 2).sum()),
        )


class CachedLoader(Loader):
    """A loader of cached states, in the order in which it would give features."""

    def __init__(
        self,
        selections: Selection | Sequence[Selection],
        config: LoaderConfig,
        cache: StateCache,
        **share: int,
    ) -> None:
        super().__init__(selections, config, **share)
        self.cache = cache

    def _open(self) -> "CachedSource":
        return CachedSource(self.cache, self.selections[0].rows, self._own_batches())


class CachedSource:
    """A source that makes each batch from the cache on request."""

    def __init__(self, cache: StateCache, rows: Rows, batches: Iterator[OwnBatch]) -> None:
        self.cache = cache
        self.rows = rows
        self.batches = batches

    def next(self) -> tuple[Batch, OwnBatch]:
        """Return the next batch and its place in the order."""
        own = next(self.batches)
        return self.cache.batch(self.rows[own.entries % len(self.rows)]), own


def plan_cache(setup: DownstreamSetup, rows: Rows, folder: Path) -> StateCache:
    """Return the cache of some rows in a folder, whose file `write_states` writes."""
    pooled = setup.model.head.config.linear_up_to_pooling
    frames = setup.dataset.frames(setup.inputs.feature)
    count = np.zeros(len(setup.dataset), np.int64)
    count[rows] = 1 if pooled else setup.inputs.frame_counts()[rows]
    begin = np.cumsum(count) - count
    key = cache_key(setup.model, setup.dataset.manifest.fingerprint, rows, pooled)
    return StateCache(folder / f"{key}.npy", begin, count, frames)


def cache_key(model: DownstreamModel, data_fingerprint: str, rows: Rows, pooled: bool) -> str:
    """Return a name that is unique to weights, layers, their normalisation, rows and pooling."""
    read = [list(model.head.chosen), model.head.config.normalise_states, pooled]
    digest = xxhash.xxh3_64(f"{data_fingerprint}/{json.dumps(read)}".encode())
    digest.update(rows.tobytes())
    digest.update(json.dumps(model.upstream.config.to_dict(), sort_keys=True).encode())
    for tensor in model.upstream.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def write_states(config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache) -> None:
    """Write the file of a cache, unless it is there; it appears only when it is complete.

    Averages are stored in float32, frames in float16.
    """
    if cache.path.is_file():
        return
    rows = np.flatnonzero(cache.count)
    device = best_device()
    model = setup.model.eval().to(device)
    pooled = model.head.config.linear_up_to_pooling
    shape = (int(cache.count.sum()), len(model.head.chosen), model.upstream.width)
    loader = whole_utterances(setup.inputs, rows, config.batch_seconds, config.prefetch)
    dtype = np.dtype("<f4" if pooled else "<f2")
    row_bytes = shape[1] * shape[2] * dtype.itemsize
    with (
        atomic_write(cache.path) as stream,
        progress_bar("hidden states", total=len(rows), unit="utterance") as bar,
    ):
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        start = stream.tell()
        for batch in loader:
            moved = batch.to(device)
            states, lengths = model.states(moved.features, moved.lengths)
            stored = states_by_utterance(states, lengths, pooled=pooled)
            for row, values in zip(batch.rows.tolist(), stored, strict=True):
                kept = values.to(torch.float32 if pooled else torch.float16)
                require_finite(kept, setup.dataset.key(row))
                # Not through a map, where a full disk ends the process without an error.
                stream.seek(start + cache.begin[row] * row_bytes)
                stream.write(kept.cpu().numpy().astype(dtype, copy=False).tobytes())
            bar.update(len(batch.rows))
    loader.close()
    setup.model.to("cpu")


def states_by_utterance(states: Sequence[Tensor], lengths: Tensor, *, pooled: bool) -> list[Tensor]:
    """Return the states of every utterance `(frames, states, width)`; averages are one frame."""
    if pooled:
        means = torch.stack([mean_pool(state, lengths) for state in states], dim=1)
        return list(means.unsqueeze(1))
    stacked = torch.stack(list(states), dim=2)
    return [utterance[:length] for utterance, length in zip(stacked, lengths.tolist(), strict=True)]
