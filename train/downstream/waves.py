"""Waves of a dataset's utterances as batches, for upstreams that read them."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.errors import require
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.epoch_plan import OwnBatch
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows, crop_start
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.places import lasting_path
from aalbert.train.run_folder import RunFolder

# Files are read at once by so many threads.
MOST_THREADS = 4


class Waves(Protocol):
    """The waves that the features of a dataset were computed from."""

    def read(self, row: int, part: slice, sample_rate: int) -> NDArray[np.float32]:
        """Return a part of the wave of a row of the dataset `(samples,)`, at a rate.

        `part` is of samples at the rate of the features.
        """
        ...


@dataclass(frozen=True)
class WaveCorpus:
    """A corpus, at a place if that is known, and how the waves of a dataset are read from it.

    With `to_listen` it is for people too, whatever the runs read.
    """

    open: Callable[[Dataset, str], Waves]
    place: str | None = None
    to_listen: bool = False

    def or_recorded(self, record: Mapping[str, Any]) -> "WaveCorpus":
        """Return the corpus at its place or, without one, where a run's record has it."""
        return replace(self, place=self.place or record.get("corpus"))


def corpus_record(corpus: WaveCorpus | None) -> dict[str, str]:
    """Return the entry of a run's record for the corpus that its waves are of, if it has any."""
    return {} if corpus is None or corpus.place is None else {"corpus": lasting_path(corpus.place)}


def require_wave_runs(corpus: WaveCorpus | None, runs: Sequence[RunFolder]) -> None:
    """Raise `ConfigError` for a place of a corpus when none of the runs reads waves."""
    require(
        corpus is None
        or corpus.place is None
        or corpus.to_listen
        or any("corpus" in run.read_record() for run in runs),
        f"--corpus is for encoders that read waves, and {', '.join(str(run.path) for run in runs)} "
        "read stored features: leave it out",
    )


@dataclass(frozen=True)
class WaveSource:
    """What makes batches of waves: where they are, their rate, and the settings of the features.

    Crops are of as many seconds as those of the stored frames would be, at the same time.
    """

    waves: Waves
    sample_rate: int
    stored: FeatureSettings

    def batch(self, rows: Rows, frames: Rows, starts: Rows, crop_frames: int | None) -> Batch:
        """Return the waves `(batch, samples, 1)` of some rows, padded with zeros.

        `frames (batch,)` are the stored frames of each, `starts (batch,)` those that crops begin
        with.
        """
        waves = [
            self.cropped(row, start, crop_frames)
            for row, start in zip(rows.tolist(), starts.tolist(), strict=True)
        ]
        taken = frames if crop_frames is None else np.minimum(frames, crop_frames)
        return Batch(
            features=torch.nn.utils.rnn.pad_sequence(waves, batch_first=True).unsqueeze(-1),
            lengths=torch.tensor([len(wave) for wave in waves]),
            rows=torch.from_numpy(rows.copy()),
            real_frames=int(taken.sum()),
            longest=int(taken.max()),
            squared_frames=int((taken**2).sum()),
        )

    def cropped(self, row: int, start: int, crop_frames: int | None) -> Tensor:
        """Return the wave of a row `(samples,)`, or its crop from a stored frame on."""
        part, shift = slice(None), self.stored.shift_samples
        if crop_frames is not None:
            part = slice(start * shift, (start + crop_frames) * shift)
        return torch.from_numpy(self.waves.read(row, part, self.sample_rate))


class WaveLoader(Loader):
    """A loader of waves, in the order in which it would give features."""

    def __init__(
        self,
        selections: Selection | Sequence[Selection],
        config: LoaderConfig,
        source: WaveSource,
        **share: int,
    ) -> None:
        super().__init__(selections, config, **share)
        self.source = source

    def close(self) -> None:
        """End the threads that read ahead."""
        if isinstance(self._source, WaveReader):
            self._source.close()
        super().close()

    def _open(self) -> "WaveReader":
        return WaveReader(self.source, self.selections[0], self._own_batches(), self.config)


class WaveReader:
    """A source that reads the waves of batches in threads, up to `prefetch` batches ahead.

    It does so within an epoch alone, as most are read once. Decoders let other threads of Python
    go on. Without `prefetch` each batch is read on request.
    """

    def __init__(
        self,
        source: WaveSource,
        selection: Selection,
        batches: Iterator[OwnBatch],
        config: LoaderConfig,
    ) -> None:
        self.source = source
        self.rows, self.dataset = selection.rows, selection.dataset
        self.frames = selection.dataset.frames(config.feature)
        self.batches = batches
        self.config = config
        self.following = next(batches)
        threads = min(config.prefetch, MOST_THREADS)
        self.threads = ThreadPoolExecutor(threads, "waves") if threads else None
        self.ahead: deque[tuple[Future[Batch], OwnBatch]] = deque()

    def next(self) -> tuple[Batch, OwnBatch]:
        """Return the next batch and its place in the order."""
        if self.threads is None:
            own = self.take()
            return self.read(own), own
        while not self.ahead or (
            len(self.ahead) <= self.config.prefetch
            and self.following.epoch == self.ahead[-1][1].epoch
        ):
            own = self.take()
            self.ahead.append((self.threads.submit(self.read, own), own))
        batch, own = self.ahead.popleft()
        return batch.result(), own

    def take(self) -> OwnBatch:
        """Return the next batch of the order."""
        own, self.following = self.following, next(self.batches)
        return own

    def close(self) -> None:
        """End the threads, when they have read what they are at."""
        if self.threads is not None:
            self.threads.shutdown(cancel_futures=True)

    def read(self, own: OwnBatch) -> Batch:
        """Return the waves of a batch of the order."""
        rows = self.rows[own.entries % len(self.rows)]
        starts = np.array([self.crop_start(int(entry), own.epoch) for entry in own.entries])
        return self.source.batch(rows, self.frames[rows], starts, self.config.crop_frames)

    def crop_start(self, number: int, epoch: int) -> int:
        """Return the stored frame that the crop of an entry of the plan begins with."""
        copy, entry = divmod(number, len(self.rows))
        row, crop_frames = int(self.rows[entry]), self.config.crop_frames
        frames = int(self.frames[row])
        if crop_frames is None or frames <= crop_frames:
            return 0
        return crop_start(
            self.dataset.key(row),
            frames,
            crop_frames,
            seed=self.config.seed,
            epoch=epoch if self.config.shuffle else 0,
            copy=copy,
        )
