"""Datasets and loaders that are handed to other processes, by every start method."""

import multiprocessing
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from aalbert.common.store import Store
from aalbert.errors import IntegrityError
from aalbert.shards import Batch, Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.loading import reader_client
from aalbert.shards.loading.loader import Stream
from aalbert.shards.reading.shard_cache import ShardCache
from tests.trees import tree

CONFIG = LoaderConfig(order=OrderConfig(frames_per_batch=200, window_shards=2), seed=5, prefetch=0)
READ_AHEAD = replace(CONFIG, prefetch=3)
FORKSERVER = pytest.param("forkserver", marks=pytest.mark.slow)

# In another process, a batch: its rows, and the sum of its features.
Summary = tuple[list[int], float]


def summary(batch: Batch) -> Summary:
    return batch.rows.tolist(), float(batch.features.double().sum())


def rest_of(loader: Loader) -> tuple[dict[str, int | str], list[Summary]]:
    state = loader.state_dict()
    return state, [summary(batch) for batch in loader]


def features_of(dataset: Dataset, row: int) -> NDArray[np.float16]:
    return dataset.features(row, "logmel").copy()


class Wrapped(IterableDataset[Batch]):
    """What a user writes to give a loader to PyTorch's `DataLoader`."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


@pytest.fixture(scope="module", params=["spawn", FORKSERVER])
def processes(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(1, context) as executor:
        yield executor


def test_a_dataset_opens_the_same_place_in_another_process(
    prepared: Path, processes: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared.parent)
    dataset = Dataset(prepared.name)
    expected = features_of(dataset, 4)
    monkeypatch.chdir("/")
    found = processes.submit(features_of, dataset, 4).result()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("config", [CONFIG, READ_AHEAD], ids=["inline", "read ahead"])
@pytest.mark.parametrize("taken", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_a_loader_continues_in_another_process_and_here(
    prepared: Path, processes: ProcessPoolExecutor, config: LoaderConfig, taken: int
) -> None:
    every = [summary(batch) for batch in Loader(Dataset(prepared).select(["*"]), config)]
    loader = Loader(Dataset(prepared).select(["*"]), config)
    here = iter(loader)
    for _ in range(taken):
        next(here)
    state = loader.state_dict()
    assert processes.submit(rest_of, loader).result() == (state, every[taken:])
    assert loader.state_dict() == state
    assert [summary(batch) for batch in here] == every[taken:]
    loader.close()


def test_a_loader_keeps_its_ranks_weights_and_counts(prepared: Path) -> None:
    selections = [Dataset(prepared).select(["dev*"], 2.0), Dataset(prepared).select(["train*"])]
    loader = Loader(selections, CONFIG, rank=1, world_size=2)
    for _ in range(2):
        list(loader)
    copy = pickle.loads(pickle.dumps(loader))
    for name in ("rank", "world_size", "config", "epoch", "dropped", "repeated", "waited_s"):
        assert getattr(copy, name) == getattr(loader, name)
    assert rest_of(copy) == rest_of(loader)


def test_a_stream_continues_as_well(prepared: Path) -> None:
    stream = Stream(Loader(Dataset(prepared).select(["*"]), CONFIG), 30)
    here = iter(stream)
    for _ in range(11):
        next(here)
    copy = pickle.loads(pickle.dumps(stream))
    assert [summary(batch) for batch in copy] == [summary(batch) for batch in here]


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, READ_AHEAD], ids=["inline", "read ahead"])
def test_batches_come_from_a_worker_of_pytorch(prepared: Path, config: LoaderConfig) -> None:
    loader = Loader(Dataset(prepared).select(["*"]), config)
    workers: DataLoader[Batch] = DataLoader(
        Wrapped(loader), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert [summary(batch) for batch in workers] == rest_of(loader)[1]
    loader.close()


def test_a_batch_read_ahead_is_pickled_without_its_slot(prepared: Path) -> None:
    loader = Loader(Dataset(prepared).select(["*"]), READ_AHEAD)
    batch = next(iter(loader))
    copy = pickle.loads(pickle.dumps(batch))
    assert torch.equal(copy.features, batch.features)
    assert copy.lease is None and batch.lease is not None
    loader.close()


def test_a_dataset_in_a_store_keeps_its_cache(prepared: Path, tmp_path: Path) -> None:
    store = Store("memory://handed-over")
    for path, content in tree(prepared).items():
        store.write(path, content)
    cache = ShardCache(folder=tmp_path / "cache", limit_bytes=10**9, timeout_s=7.0)
    copy = pickle.loads(pickle.dumps(Dataset(store.url, cache)))
    assert copy.mirror.cache == cache and copy.place == store.name
    np.testing.assert_array_equal(features_of(copy, 2), features_of(Dataset(prepared), 2))


def test_a_dataset_that_was_replaced_is_not_taken_for_the_pickled_one(
    dataset_copy: Path, voxceleb1_data: Path
) -> None:
    pickled = pickle.dumps(Dataset(dataset_copy))
    dataset_copy.rename(dataset_copy.with_name("old"))
    dataset_copy.symlink_to(voxceleb1_data)
    with pytest.raises(IntegrityError, match="data was replaced while it was read: start again"):
        pickle.loads(pickled)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_reader_outlives_signals_to_its_whole_group_even_as_it_starts(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    start = reader_client.start_process

    def start_and_signal(*arguments: Any) -> Any:
        process = start(*arguments)
        process.send_signal(number)
        return process

    monkeypatch.setattr(reader_client, "start_process", start_and_signal)
    selection = Dataset(prepared).select(["*"])
    ahead, inline = Loader(selection, READ_AHEAD), Loader(selection, CONFIG)
    assert rest_of(ahead)[1] == rest_of(inline)[1]
