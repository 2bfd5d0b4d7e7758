"""Batches of features from datasets, in a reproducible and resumable order.

The selected utterances (`utterance_table`) pass four stages:

1. order: the utterances of each batch of each rank, from any position on (`epoch_plan`, built on
   the pure functions in `order`);
2. look-up: the crop of each utterance in a batch and the location of its bytes (`look_up`);
3. fill: the bytes are verified and copied from mapped shards into a batch (`fill`);
4. slots: the memory that is filled and lent out as batches (`shared_slots`, `batch`).

A reader process runs the first three ahead of the training loop (`reader_process`; the loop's side
is `reader_client`). Without one, the loader runs them batch by batch.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from aalbert.errors import ConfigError, require
from aalbert.shards.loading.batch import Batch, make_batch
from aalbert.shards.loading.batch_shape import largest_batch_bytes
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import EpochPlan, OwnBatch, make_plan
from aalbert.shards.loading.fill import Filler, ShardMaps
from aalbert.shards.loading.look_up import LookUp
from aalbert.shards.loading.reader_client import ReadAhead
from aalbert.shards.loading.reader_process import ReaderJob
from aalbert.shards.loading.shared_slots import Filled, RingSize
from aalbert.shards.loading.utterance_table import UtteranceTable, find_arrays, make_table
from aalbert.shards.reading.dataset import Selection

# In addition to those read ahead: the batch in use, and the previous one until it is released.
SLOTS_IN_USE = 2
# What changes as a loader is iterated, beside its source of batches.
PROGRESS = ("position", "dropped", "repeated", "waited_s")


class Loader:
    """An iterable over the batches of one epoch, from `position` on.

    The order is a pure function of the data, the settings, the seed and `batches_per_step`: the
    batches that all ranks together take at a step, by default one each. A rank takes its equal
    share of them one after another, so that a step has the same batches with any number of ranks.
    The state is one integer, the utterances given to all ranks since the beginning of epoch 0:
    resuming after a step is exact, takes no time, and works with another number of ranks.

    `dropped` and `repeated` count the utterances that could not be divided evenly at the ends of
    epochs, `waited_s` the seconds spent waiting for batches.

    A pickled loader is one at the same position in the process that unpickles it, whatever its
    start method; it starts a reader of its own when it is iterated.
    """

    def __init__(
        self,
        selections: Selection | Sequence[Selection],
        config: LoaderConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        batches_per_step: int | None = None,
    ) -> None:
        require(
            0 <= rank < world_size,
            f"rank is {rank} of {world_size}: ranks count from 0 to {world_size - 1}",
        )
        self.batches_per_step = world_size if batches_per_step is None else batches_per_step
        require(
            self.batches_per_step > 0 and self.batches_per_step % world_size == 0,
            f"batches_per_step is {batches_per_step}: give a multiple of {world_size}, the number "
            "of ranks",
        )
        self.selections = [selections] if isinstance(selections, Selection) else list(selections)
        self.config = config
        self.rank = rank
        self.world_size = world_size
        share = self.batches_per_step // world_size
        # The numbers of this rank's batches among those of a step.
        self.own = range(rank * share, (rank + 1) * share)
        self.position = 0
        self.dropped = 0
        self.repeated = 0
        self.waited_s = 0.0
        self._table = make_table(self.selections, config.features)
        self._plan = make_plan(self._table, config)
        self._source: Source | None = None
        self._source_position = 0

    def __repr__(self) -> str:
        places = ", ".join(repr(each.dataset.place) for each in self.selections)
        rank = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return (
            f"Loader({places}: {self.utterances:,} utterances an epoch of "
            f"{', '.join(self.config.features)}, {self.config.order.frames_per_batch:,} frames a "
            f"batch; at utterance {self.position % self.utterances:,} of epoch {self.epoch}{rank})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes this loader; its source of batches stays here."""
        make = partial(
            Loader,
            self.selections,
            self.config,
            rank=self.rank,
            world_size=self.world_size,
            batches_per_step=self.batches_per_step,
        )
        return make, (), {name: getattr(self, name) for name in PROGRESS}

    @property
    def utterances(self) -> int:
        """Utterances in an epoch, over all ranks."""
        return self._plan.size

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self.position // self.utterances

    def __len__(self) -> int:
        """Batches in the current epoch, for each rank."""
        return self._plan.count_steps(self.epoch, self.batches_per_step) * len(self.own)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch; afterwards the position is the start of the next.

        Raises `ConfigError` when there are fewer utterances than batches in a step,
        `IntegrityError` when bytes do not match their checksum, `ReaderDiedError` when a reader was
        killed.
        """
        end = (self.epoch + 1) * self.utterances
        while self.position < end:
            yield self._next()

    def epoch_ends(self, epochs: int) -> list[int]:
        """Return the number of steps up to the end of each of the first epochs."""
        counts = [self._plan.count_steps(epoch, self.batches_per_step) for epoch in range(epochs)]
        return [int(end) for end in np.cumsum(counts)]

    def state_dict(self) -> dict[str, int | str]:
        """Return the position, and the identity of the order that it belongs to."""
        return {"position": self.position, "order": self._plan.identity}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Continue at the position of another loader with the same data and settings.

        Raises `ConfigError` when the position belongs to another order.
        """
        if state["order"] != self._plan.identity:
            raise ConfigError(
                "the saved position belongs to another order: data, seed, batch sizes or crops "
                "have changed since; start a new run, or restore the original settings and data"
            )
        self.position = int(state["position"])

    def close(self) -> None:
        """End the reader processes; they also end with the loader itself."""
        if isinstance(self._source, ReadAhead):
            self._source.close()
        self._source = None

    def _next(self) -> Batch:
        started = time.perf_counter()
        if self._source is None or self._source_position != self.position:
            self.close()
            self._source = self._open()
        batch, taken = self._source.next()
        self.position = self._source_position = taken.position
        self.dropped += taken.dropped
        self.repeated += taken.repeated
        self.waited_s += time.perf_counter() - started
        return batch

    def _open(self) -> "Source":
        self._plan.require_enough(self.batches_per_step)
        if not self.config.prefetch:
            return Inline(self._table, self._plan, self._own_batches(), self.config)
        slot_bytes = largest_batch_bytes(self._plan.frames, self._table.dims, self.config.order)
        job = ReaderJob(
            selections=tuple(self.selections),
            config=self.config,
            position=self.position,
            batches_per_step=self.batches_per_step,
            own=self.own,
            reader=0,
            ring=RingSize(self.config.prefetch + SLOTS_IN_USE, slot_bytes),
        )
        return ReadAhead(self._table, job)

    def _own_batches(self) -> Iterator[OwnBatch]:
        """Yield this rank's batches from the position on, endlessly."""
        return self._plan.own_batches(self.position, self.batches_per_step, self.own)


class Source(Protocol):
    """The source of a loader's batches, in the order of its plan."""

    def next(self) -> tuple[Batch, OwnBatch | Filled]:
        """Return the next batch, and the position of the loader after it."""
        ...


class Inline:
    """A source that reads each batch when it is requested, in the calling thread."""

    def __init__(
        self,
        table: UtteranceTable,
        plan: EpochPlan,
        batches: Iterator[OwnBatch],
        config: LoaderConfig,
    ) -> None:
        arrays = find_arrays(table)
        self._plan = plan
        self._batches = batches
        self._config = config
        self._look_up = LookUp(table, arrays, plan.frames, config)
        self._maps = ShardMaps([selection.dataset for selection in table.selections])
        self._filler = Filler(table, arrays, self._maps, config)

    def next(self) -> tuple[Batch, OwnBatch]:
        """Return the next batch and its place in the order."""
        own = next(self._batches)
        [contents] = self._look_up.find([own.entries], [own.epoch])
        self._maps.enter(own, self._plan)
        self._maps.require_whole(contents)
        buffer = np.empty(contents.shape.bytes, np.uint8)
        self._filler.fill(contents, contents.shape.arrays(buffer))
        return make_batch(buffer, contents.shape, self._config.targets), own


class Stream:
    """A loader's epochs one after another, up to `steps` batches.

    Its length is `steps`. Its state is saved in checkpoints; it counts the batches of all ranks,
    so that another number of ranks can load it.
    """

    def __init__(self, loader: Loader, steps: int) -> None:
        self.loader = loader
        self.steps = steps
        self.taken = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches."""
        while self.taken < self.steps:
            for batch in self.loader:
                self.taken += 1
                yield batch
                if self.taken == self.steps:
                    return

    def state_dict(self) -> dict[str, int | str]:
        """Return the number of batches given to all ranks, and the loader's state."""
        return {"taken": self.taken * self.loader.world_size, **self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Continue at the state of another stream of the same loader."""
        self.loader.load_state_dict(state)
        self.taken = int(state["taken"]) // self.loader.world_size
