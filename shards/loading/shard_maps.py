"""The mapped shards of several datasets, numbered through, opened when they are needed."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from aalbert.shards.loading.epoch_plan import EpochPlan, Step
from aalbert.shards.reading.dataset import Dataset


class ShardMaps(dict[int, memoryview]):
    """Shards by number. Those of a remote dataset are held in its cache for one window."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        super().__init__()
        self._datasets = datasets
        self._ahead: ThreadPoolExecutor | None = None
        self._fetching: Future[None] | None = None
        self._remote = any(dataset.mirror for dataset in datasets)
        self._entered: tuple[int, int] | None = None

    def __missing__(self, shard: int) -> memoryview:
        dataset, number = self._find(shard)
        self[shard] = dataset.map_shard(number).data
        return self[shard]

    def enter(self, step: Step, rank: int, plan: EpochPlan) -> None:
        """Hold the shards of a step's window, let go of others, and fetch the next ones ahead.

        Shards that lie on this machine are left alone. Raises `ConfigError` when the window is
        larger than the cache.
        """
        window = step.windows[rank]
        if self._remote and (step.epoch, window) != self._entered:
            self._entered = (step.epoch, window)
            following = plan.window_shards(step.epoch, window + 1)
            self._hold(
                plan.window_shards(step.epoch, window),
                following or plan.window_shards(step.epoch + 1, 0),
            )

    def _hold(self, window: Collection[int], following: Collection[int]) -> None:
        """Let go of all remote shards but those of a window, and begin to fetch the next ones.

        What is fetched ahead is not held: others who need the room now come first.
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
