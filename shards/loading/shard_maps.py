"""The mapped shards of several datasets, numbered consecutively, opened when they are needed."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from aalbert.shards.loading.epoch_plan import EpochPlan, Step
from aalbert.shards.reading.dataset import Dataset


class ShardMaps(dict[int, memoryview]):
    """Shards by number. Those of a remote dataset are locked in its cache for one window."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        super().__init__()
        self._datasets = datasets
        self._executor: ThreadPoolExecutor | None = None
        self._fetching: Future[None] | None = None
        self._remote = any(dataset.mirror for dataset in datasets)
        self._entered: tuple[int, int] | None = None

    def __missing__(self, shard: int) -> memoryview:
        dataset, number = self._find(shard)
        self[shard] = dataset.map_shard(number).data
        return self[shard]

    def enter(self, step: Step, rank: int, plan: EpochPlan) -> None:
        """Release the remote shards outside of a step's window, and fetch the next ones ahead.

        Local shards stay mapped. Raises `ConfigError` when the window is larger than the cache.
        """
        window = step.windows[rank]
        if self._remote and (step.epoch, window) != self._entered:
            self._entered = (step.epoch, window)
            following = plan.window_shards(step.epoch, window + 1)
            self._enter_window(
                plan.window_shards(step.epoch, window),
                following or plan.window_shards(step.epoch + 1, 0),
            )

    def _enter_window(self, window: Collection[int], following: Collection[int]) -> None:
        """Release all remote shards except those of a window, and start to fetch the next ones.

        Shards that are fetched ahead are not locked: processes that need the room now go first.
        """
        self._check_room(window)
        for shard in [mapped for mapped in self if mapped not in window]:
            if self._find(shard)[0].mirror:
                del self[shard]
        for first, dataset in self._numbered():
            dataset.release_shards({shard - first for shard in window})
        self._executor = self._executor or ThreadPoolExecutor(1, "fetch-ahead")
        if self._fetching is None or self._fetching.done():
            self._fetching = self._executor.submit(self._fetch, [*window, *following])

    def _fetch(self, shards: Sequence[int]) -> None:
        """Fetch shards. An error here occurs again, and is reported, when the shard is read."""
        for shard in shards:
            dataset, number = self._find(shard)
            dataset.fetch_shard(number)

    def _check_room(self, window: Collection[int]) -> None:
        """Raise `ConfigError` when a cache cannot hold all its shards of a window."""
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
        """Return the dataset of a shard, and the shard's number there."""
        for first, dataset in self._numbered():
            if shard < first + len(dataset.shard_paths):
                return dataset, shard - first
        raise KeyError(shard)
