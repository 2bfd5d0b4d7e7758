"""The selected utterances of several datasets, numbered through, and where their features lie.

An entry is the number of a selected utterance; its row counts through the datasets one after
another, and its shard through their shards.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from aalbert.errors import ConfigError
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.compatibility import (
    leading_frames,
    require_same_feature,
    require_same_shift,
    spare_frames,
)
from aalbert.shards.reading.dataset import STORED_DTYPE, Dataset, Selection


class Entries:
    """The utterances of selections."""

    def __init__(self, selections: Sequence[Selection]) -> None:
        self.selections = selections

    def __len__(self) -> int:
        return sum(len(some.rows) for some in self.selections)

    def gather(self, values: Callable[[Dataset], NDArray[Any]]) -> NDArray[Any]:
        """Return a number of every entry, taken from the rows of the datasets."""
        return np.concatenate([values(some.dataset)[some.rows] for some in self.selections])

    @cached_property
    def rows(self) -> Rows:
        """The row of every entry."""
        first = np.cumsum([0, *(len(some.dataset) for some in self.selections)])
        pairs = zip(self.selections, first.tolist(), strict=False)
        return np.concatenate([some.rows + number for some, number in pairs])

    @cached_property
    def shards(self) -> Rows:
        """The shard of every entry."""
        first = np.cumsum([0, *(len(some.dataset.shard_paths) for some in self.selections)])
        pairs = zip(self.selections, first.tolist(), strict=False)
        return np.concatenate([some.dataset.shards()[some.rows] + number for some, number in pairs])

    def key(self, entry: int) -> str:
        """Return the key of an entry."""
        dataset, row = self._place(entry)
        return dataset.key(row)

    def describe(self, entry: int) -> str:
        """Return shard and key of an entry, for messages."""
        dataset, row = self._place(entry)
        return f"{dataset.shard_name(row)}, utterance '{dataset.key(row)}'"

    def refuse(self, entry: int, feature: str) -> NoReturn:
        """Raise `IntegrityError` about an entry whose bytes have another checksum."""
        dataset, row = self._place(entry)
        dataset.refuse_row(row, feature)

    def _place(self, entry: int) -> tuple[Dataset, int]:
        """Return the dataset of an entry, and its row there."""
        for some in self.selections:
            if entry < len(some.rows):
                return some.dataset, int(some.rows[entry])
            entry -= len(some.rows)
        raise IndexError(entry)


class StoredFeature:
    """One feature of the entries: its arrays in the shards, less their first `skipped` frames."""

    def __init__(self, entries: Entries, settings: FeatureSettings, skipped: int) -> None:
        self.settings = settings
        self.name: str = settings.kind
        self.dims = settings.dims
        self.row_bytes = STORED_DTYPE.itemsize * settings.dims
        self.skipped = skipped
        self._entries = entries

    @cached_property
    def stored_frames(self) -> Rows:
        """The frames of every entry that lie in the shard."""
        return self._entries.gather(lambda data: data.frames(self.name))

    @property
    def frames(self) -> Rows:
        """The frames of every entry after those that are skipped."""
        return self.stored_frames - self.skipped

    @cached_property
    def offsets(self) -> Rows:
        """Where the array of every entry begins in its shard."""
        return self._entries.gather(lambda data: data.places(self.name).offset)

    @cached_property
    def begins(self) -> Rows:
        """Where the first frame that is not skipped begins in the shard."""
        return self.offsets + self.skipped * self.row_bytes

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The checksum of every entry's array."""
        return self._entries.gather(lambda data: data.places(self.name).xxh3)


def open_features(entries: Entries, names: Sequence[str]) -> list[StoredFeature]:
    """Return the features of these names, so that frames of the same number belong together.

    Raises `ConfigError` when a dataset lacks one or has it with other settings, or when their
    frames are not equally far apart.
    """
    for name in names:
        require_same_feature(entries.selections, name)
    stored = entries.selections[0].dataset.manifest.features
    settings = [stored[name] for name in names]
    require_same_shift(settings)
    return [
        StoredFeature(entries, some, skipped)
        for some, skipped in zip(settings, leading_frames(settings), strict=True)
    ]


def common_frames(entries: Entries, features: Sequence[StoredFeature]) -> Rows:
    """Return how many frames of every entry all features have.

    Raises `ConfigError` when their numbers differ by more than their definitions do.
    """
    counts = [feature.frames for feature in features]
    spare = spare_frames([feature.settings for feature in features])
    shortest: Rows = np.minimum.reduce(counts)
    uneven = np.flatnonzero(np.maximum.reduce(counts) - shortest > spare)
    if len(uneven):
        entry = int(uneven[0])
        found = [f"{feature.stored_frames[entry]} of {feature.name}" for feature in features]
        raise ConfigError(
            f"{entries.describe(entry)} has {' and '.join(found)} frames, which differ by more "
            f"than {spare}: they are not of the same recording; prepare the data again"
        )
    return shortest


class ShardMaps(dict[int, memoryview]):
    """Shards by number. Those of a remote dataset are held in its cache for one window."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        super().__init__()
        self._datasets = datasets
        self._ahead: ThreadPoolExecutor | None = None
        self._fetching: Future[None] | None = None
        self.remote = any(dataset.mirror for dataset in datasets)

    def __missing__(self, shard: int) -> memoryview:
        dataset, number = self._find(shard)
        self[shard] = dataset.map_shard(number).data
        return self[shard]

    def enter(self, window: Collection[int], following: Collection[int]) -> None:
        """Let go of all remote shards but those of a window, and begin to fetch the next ones.

        What is fetched ahead is not held: others who need the room now come first. Raises
        `ConfigError` when the window is larger than the cache.
        """
        self._check_room(window)
        for shard in [mapped for mapped in self if mapped not in window]:
            if self._find(shard)[0].mirror:
                del self[shard]
        for first, dataset in self._numbered():
            kept = {shard - first for shard in window}
            dataset.release_shards(kept)
        self._ahead = self._ahead or ThreadPoolExecutor(1, "fetch-ahead")
        if self._fetching is None or self._fetching.done():
            self._fetching = self._ahead.submit(self._fetch, [*window, *following])

    def _fetch(self, shards: Sequence[int]) -> None:
        """Fetch shards. What fails here fails again, and is told, when the shard is read."""
        for shard in shards:
            dataset, number = self._find(shard)
            dataset.fetch_shard(number)

    def _check_room(self, window: Collection[int]) -> None:
        sizes: dict[Path, int] = {}
        for shard in window:
            dataset, number = self._find(shard)
            if dataset.mirror:
                cache = dataset.mirror.cache.folder
                sizes[cache] = sizes.get(cache, 0) + dataset.shard_bytes(number)
                dataset.mirror.cache.check_room(sizes[cache], f"a window of {len(window)} shards")

    def _numbered(self) -> Iterator[tuple[int, Dataset]]:
        """Yield every dataset with the number of its first shard."""
        first = 0
        for dataset in self._datasets:
            yield first, dataset
            first += len(dataset.shard_paths)

    def _find(self, shard: int) -> tuple[Dataset, int]:
        """Return the dataset that a shard belongs to, and the shard's number there."""
        for first, dataset in self._numbered():
            if shard < first + len(dataset.shard_paths):
                return dataset, shard - first
        raise KeyError(shard)
