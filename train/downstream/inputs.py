"""What an upstream reads of a dataset, and the frames that its hidden states have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.models.frame_times import FrameTimes
from aalbert.models.upstream import UpstreamConfig
from aalbert.models.wave_encoders.wave_upstream import WaveUpstreamConfig
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.loading.config import LoaderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.downstream.waves import WaveLoader, Waves, WaveSource


@dataclass(frozen=True, eq=False)
class Inputs:
    """What an upstream reads of the utterances of a dataset: a stored feature, or `waves`."""

    dataset: Dataset
    upstream: UpstreamConfig | WaveUpstreamConfig
    waves: Waves | None = None

    @property
    def feature(self) -> str:
        """The stored feature that the upstream reads.

        For one that reads waves it is the first one: batches and crops are counted in its frames.
        """
        if isinstance(self.upstream, WaveUpstreamConfig):
            return next(iter(self.dataset.manifest.features))
        return str(self.upstream.features["kind"])

    @property
    def stored(self) -> FeatureSettings:
        """The settings of that feature in the dataset."""
        return self.dataset.manifest.features[self.feature]

    def samples(self) -> Rows:
        """Return the number of samples of the audio of every row of the dataset."""
        samples: Rows = self.dataset.table.column("samples").to_numpy().copy()
        return samples

    def seconds(self) -> NDArray[np.float64]:
        """Return the duration of what is read of every row of the dataset."""
        seconds: NDArray[np.float64] = (
            self.dataset.frames(self.feature) * self.stored.frame_shift_ms / 1000
        )
        return seconds

    def loader(self, rows: Rows, config: LoaderConfig, **share: int) -> Loader:
        """Return a loader of what the upstream reads of some rows, for the `share` of a rank."""
        selection = Selection(self.dataset, rows)
        if isinstance(self.upstream, WaveUpstreamConfig):
            assert self.waves is not None, "an upstream that reads waves is opened with them"
            source = WaveSource(self.waves, self.upstream.sample_rate, self.stored)
            return WaveLoader(selection, config, source, **share)
        return Loader(selection, config, **share)

    def frame_counts(self) -> Rows:
        """Return the number of frames of the hidden states of every row of the dataset."""
        if isinstance(self.upstream, WaveUpstreamConfig):
            stored, own = self.stored.sample_rate, self.upstream.sample_rate
            # As many samples as resampling gives, rounded to the nearest.
            samples = (2 * self.samples() * own + stored) // (2 * stored)
            return np.array([self.upstream.frames.count(one) for one in samples.tolist()])
        counts = self.dataset.frames(self.feature) // self.upstream.front_end.frames_stacked
        return np.maximum(1, counts)

    def frame_times(self) -> FrameTimes:
        """Return the times of the frames of hidden states."""
        if isinstance(self.upstream, WaveUpstreamConfig):
            return self.upstream.frame_times()
        return stacked_times(self.stored, self.upstream.front_end.frames_stacked)

    def most_frames(self, rows: Rows) -> int:
        """Return the number of frames that no hidden state of these rows exceeds."""
        return int(self.frame_counts()[rows].max()) + 1


def stacked_times(settings: FeatureSettings, stacked: int) -> FrameTimes:
    """Return the times of frames that hold `stacked` frames of a feature; the centre is theirs."""
    first_ms, second_ms = settings.centres_ms(np.arange(2) * stacked + (stacked - 1) / 2)
    return FrameTimes(first_ms=float(first_ms), shift_ms=float(second_ms - first_ms))
