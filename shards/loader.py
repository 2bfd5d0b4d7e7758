"""Batches of features from a dataset, in a reproducible order that resumes where it was."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.shards.dataset import Dataset
from aalbert.shards.order import (
    OrderConfig,
    Rows,
    crop_start,
    deal,
    shuffled_batches,
    sorted_batches,
)


@dataclass(frozen=True)
class Batch:
    """Features of several utterances.

    `features (batch, frames, dims)` is float16 as stored, zero past the end of each
    utterance; `lengths (batch,)` counts the real frames, `rows (batch,)` the
    utterances' numbers in the dataset; `real_frames` is the sum of the lengths.
    """

    features: Tensor
    lengths: Tensor
    rows: Tensor
    real_frames: int

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            features=self.features.to(device),
            lengths=self.lengths.to(device),
            rows=self.rows.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Which feature is read, how long a crop of it, and in which order.

    `crop_frames` of None takes whole utterances; `shuffle` of False takes every
    utterance once, sorted by length, the same in every epoch.
    """

    order: OrderConfig
    feature: str = "logmel"
    crop_frames: int | None = None
    shuffle: bool = True
    seed: int = 0


class Loader:
    """Iterates over the batches of one epoch, from `position` on.

    The state is the epoch and the position in it, so resuming is exact and takes no
    time; both are a pure function of the data, the settings and the seed.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Rows,
        config: LoaderConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        dataset.require_feature(config.feature)
        self.dataset = dataset
        self.rows = rows
        self.config = config
        self.epoch = 0
        self.position = 0
        self._deal = partial(deal, rank=rank, world_size=world_size)
        self._frames = self._cropped_frames()
        self._keys = dataset.table.column("key")
        self._planned: tuple[int, list[Rows]] | None = None

    def __len__(self) -> int:
        """Batches in the current epoch."""
        return len(self.batches())

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, then step to the start of the next."""
        batches = self.batches()
        while self.position < len(batches):
            rows = batches[self.position]
            self.position += 1
            yield self.read(rows)
        self.epoch += 1
        self.position = 0

    def batches(self) -> list[Rows]:
        """Return the rows of every batch of the current epoch."""
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self._deal(self._plan(self.epoch)))
        return self._planned[1]

    def epoch_ends(self, epochs: int) -> list[int]:
        """Return how many batches there are up to the end of each of the first epochs."""
        counts = (len(self._deal(self._plan(epoch))) for epoch in range(epochs))
        return list(accumulate(counts))

    def read(self, rows: Rows) -> Batch:
        """Read the features of these rows into one padded batch."""
        arrays = [self._read_row(int(row)) for row in rows]
        lengths = [len(array) for array in arrays]
        features = np.zeros((len(rows), max(lengths), arrays[0].shape[1]), np.float16)
        for padded, array in zip(features, arrays, strict=True):
            padded[: len(array)] = array
        return Batch(
            features=torch.from_numpy(features),
            lengths=torch.tensor(lengths),
            rows=torch.from_numpy(rows),
            real_frames=sum(lengths),
        )

    def state_dict(self) -> dict[str, int]:
        """Return where the loader is."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where another loader with the same data and settings was."""
        self.epoch = state["epoch"]
        self.position = state["position"]

    def _plan(self, epoch: int) -> list[Rows]:
        order = self.config.order
        if not self.config.shuffle:
            return sorted_batches(self.rows, self._frames, order.frames_per_batch)
        shards = self.dataset.shards()[self.rows]
        return shuffled_batches(
            self.rows, self._frames, shards, order, seed=self.config.seed, epoch=epoch
        )

    def _cropped_frames(self) -> Rows:
        frames = self.dataset.frames(self.config.feature)[self.rows].astype(np.int64)
        if self.config.crop_frames is None:
            return frames
        return np.minimum(frames, self.config.crop_frames)

    def _read_row(self, row: int) -> NDArray[np.float16]:
        features = self.dataset.features(row, self.config.feature)
        crop_frames = self.config.crop_frames
        if crop_frames is None:
            return features
        epoch = self.epoch if self.config.shuffle else 0
        key = self._keys[row].as_py()
        start = crop_start(key, len(features), crop_frames, seed=self.config.seed, epoch=epoch)
        return features[start : start + crop_frames]


class Stream:
    """A loader's epochs one after another, until `steps` batches have been given.

    Its length is `steps` and its state travels with a checkpoint, which is what a
    trainer that counts steps needs.
    """

    def __init__(self, loader: Loader, steps: int) -> None:
        self.loader = loader
        self.steps = steps
        self.taken = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left."""
        while self.taken < self.steps:
            if len(self.loader) == 0:
                raise ConfigError(
                    f"{self.loader.dataset.folder}: {len(self.loader.rows)} utterances give no "
                    "batch for every process: use fewer processes or smaller batches"
                )
            for batch in self.loader:
                self.taken += 1
                yield batch
                if self.taken == self.steps:
                    return

    def state_dict(self) -> dict[str, int]:
        """Return how many batches were given, and where the loader is."""
        return {"taken": self.taken, **self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where another stream of the same loader was."""
        self.taken = state["taken"]
        self.loader.load_state_dict(state)
