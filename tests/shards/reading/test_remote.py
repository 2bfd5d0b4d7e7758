"""Datasets in a store: fetched ahead into a cache of limited size that processes share."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError, InputError, IntegrityError, StorageError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.reading.shard_cache import ShardCache

CONFIG = LoaderConfig(order=OrderConfig(frames_per_batch=150, window_shards=1), seed=1, prefetch=0)


@pytest.fixture(scope="session")
def ten(librispeech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ten shards or more."""
    out = tmp_path_factory.mktemp("ten") / "data"
    config = PrepareConfig(features=(LogMelSettings(),), shard_bytes=24_000)
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    prepare(read_librispeech(librispeech_folder), out, config, limits)
    assert len(Dataset(out).shard_paths) >= 10
    return out


@dataclass(frozen=True)
class Remote:
    """A dataset in the bucket, and a client that sees what fsspec does not cache."""

    url: str
    client: Any
    local: Path

    def key(self, path: Path) -> str:
        return f"data/{path.relative_to(self.local)}"


@pytest.fixture
def remote(s3: str, s3_client: Any, ten: Path) -> Remote:
    for path in ten.rglob("*"):
        if path.is_file():
            s3_client.upload_file(str(path), "bucket", f"data/{path.relative_to(ten)}")
    return Remote(f"{s3}/data", s3_client, ten)


def shard_sizes(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in Dataset(folder).shard_paths)


@pytest.fixture
def small_cache(ten: Path, tmp_path: Path) -> ShardCache:
    """Room for the two largest shards."""
    return ShardCache(folder=tmp_path / "cache", limit_bytes=sum(shard_sizes(ten)[-2:]))


def cached_bytes(cache: ShardCache) -> int:
    """The bytes of all shards in the cache, including those being fetched."""
    total = 0
    for path in cache.folder.rglob("*.tar*"):
        try:
            total += path.stat().st_size if path.suffix != ".lock" else 0
        except FileNotFoundError:
            continue
    return total


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_remote_dataset_gives_what_a_local_one_gives(
    remote: Remote, small_cache: ShardCache, prefetch: int
) -> None:
    config = LoaderConfig(**{**CONFIG.__dict__, "prefetch": prefetch})
    loader = Loader(Dataset(remote.url, small_cache).select(["*"]), config)
    local = Loader(Dataset(remote.local).select(["*"]), CONFIG)
    for _ in range(2):
        for batch, expected in zip(loader, local, strict=True):
            assert batch.rows.tolist() == expected.rows.tolist()
            assert torch.equal(batch.features, expected.features)
            assert cached_bytes(small_cache) <= small_cache.limit_bytes


RANK = """
import json, sys
from pathlib import Path
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.reading.shard_cache import ShardCache

url, folder, limit, rank = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
dataset = Dataset(url, ShardCache(folder=folder, limit_bytes=limit, timeout_s=30))
order = OrderConfig(frames_per_batch=150, window_shards=1)
loader = Loader(
    dataset.select(["*"]), LoaderConfig(order=order, seed=1, prefetch=0), rank=rank, world_size=2
)
print(json.dumps([batch.rows.tolist() for batch in loader]))
"""


@pytest.mark.slow
def test_two_ranks_share_a_cache_of_two_shards(remote: Remote, small_cache: ShardCache) -> None:
    """Ten shards and more; each rank locks one, and the limit is never exceeded."""
    arguments = [remote.url, str(small_cache.folder), str(small_cache.limit_bytes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *arguments, str(rank)], stdout=subprocess.PIPE
        )
        for rank in range(2)
    ]
    most = 0
    watching = threading.Event()

    def watch() -> None:
        nonlocal most
        while not watching.wait(0.01):
            most = max(most, cached_bytes(small_cache))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        outputs = [process.communicate(timeout=180)[0] for process in started]
    finally:
        for process in started:
            process.kill()
        watching.set()
        watcher.join()
    assert [process.returncode for process in started] == [0, 0]
    taken = [json.loads(output) for output in outputs]
    assert len(taken[0]) == len(taken[1])
    rows = Counter(row for batches in taken for batch in batches for row in batch)
    assert rows == Counter(range(len(Dataset(remote.local))))
    assert 0 < most <= small_cache.limit_bytes


def test_cached_shards_are_not_fetched_again(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from another URL of the same dataset, and while the store has no shards."""
    cache = ShardCache(folder=tmp_path / "cache")
    first = Loader(Dataset(remote.url, cache).select(["*"]), CONFIG)
    count = sum(len(batch.rows) for batch in first)
    dataset = Dataset(remote.url, cache)
    for path in Dataset(remote.local).shard_paths:
        remote.client.delete_object(Bucket="bucket", Key=remote.key(path))
    assert sum(len(batch.rows) for batch in Loader(dataset.select(["*"]), CONFIG)) == count


def test_a_wrong_byte_in_the_store_is_reported_with_its_url(
    remote: Remote, small_cache: ShardCache
) -> None:
    path = Dataset(remote.local).shard_paths[3]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    remote.client.put_object(Bucket="bucket", Key=remote.key(path), Body=bytes(content))
    loader = Loader(Dataset(remote.url, small_cache).select(["*"]), CONFIG)
    name = f"{remote.url}/{path.relative_to(remote.local)}"
    with pytest.raises(IntegrityError, match=rf"^{name} is not what was written \(checksum\)"):
        list(loader)
    # The thread that fetches ahead may find the same error; it removes its copy a moment later.
    deadline = time.monotonic() + 30
    while partial := list(small_cache.folder.rglob(f"*/{path.parent.name}/{path.name}*.partial")):
        assert time.monotonic() < deadline, partial
        time.sleep(0.02)


@pytest.mark.parametrize("fault", ["missing", "cut", "extra"])
def test_shards_that_are_not_as_recorded_are_refused_at_opening(
    remote: Remote, small_cache: ShardCache, fault: str
) -> None:
    path = Dataset(remote.local).shard_paths[2]
    key = remote.key(path)
    if fault == "missing":
        remote.client.delete_object(Bucket="bucket", Key=key)
    elif fault == "cut":
        remote.client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes()[:-512])
    else:
        key = remote.key(path.with_name("000099.tar"))
        remote.client.put_object(Bucket="bucket", Key=key, Body=b"")
    with pytest.raises(IntegrityError, match=key):
        Dataset(remote.url, small_cache)


def test_a_url_without_a_dataset_is_an_error(s3: str, small_cache: ShardCache) -> None:
    with pytest.raises(InputError, match=r"^there is nothing at s3://bucket/none: "):
        Dataset(f"{s3}/none", small_cache)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_an_unavailable_store_ends_the_run_and_is_named(
    remote: Remote, small_cache: ShardCache, prefetch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aalbert.common.store.RETRY_WAITS_S", (0.0, 0.0))
    config = LoaderConfig(**{**CONFIG.__dict__, "prefetch": prefetch})
    loader = Loader(Dataset(remote.url, small_cache).select(["*"]), config)
    shards = remote.client.list_objects_v2(Bucket="bucket", Prefix="data/")["Contents"]
    if prefetch == 0:
        next(iter(loader))
        for item in shards:
            remote.client.delete_object(Bucket="bucket", Key=item["Key"])
        with pytest.raises(StorageError, match=rf"^{remote.url}/.*\.tar: "):
            list(loader)
    else:
        for item in shards:
            remote.client.delete_object(Bucket="bucket", Key=item["Key"])
        with pytest.raises(InputError, match="^there is nothing at"):
            list(loader)


def test_a_window_that_is_larger_than_the_cache_is_refused(
    remote: Remote, ten: Path, tmp_path: Path
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", limit_bytes=shard_sizes(ten)[-1] - 1)
    order = OrderConfig(frames_per_batch=150, window_shards=100)
    loader = Loader(Dataset(remote.url, cache).select(["*"]), LoaderConfig(order=order, prefetch=0))
    with pytest.raises(ConfigError, match=r"needs [\d,]+ bytes of shards at once, the cache in .*"):
        next(iter(loader))


def test_a_cache_full_of_shards_that_others_lock_is_an_error_after_a_timeout(
    remote: Remote, ten: Path, tmp_path: Path
) -> None:
    limit = shard_sizes(ten)[-1]
    cache = ShardCache(folder=tmp_path / "cache", limit_bytes=limit, timeout_s=0.3)
    holder, other = Dataset(remote.url, cache), Dataset(remote.url, cache)
    sizes = [path.stat().st_size for path in Dataset(ten).shard_paths]
    first, second = np.argsort(sizes)[-2:].tolist()
    holder.map_shard(first)
    with pytest.raises(
        StorageError, match=r"no room for [\d,]+ bytes .* held its shards for 0.3 s"
    ):
        other.map_shard(second)
    holder.release_shards(())
    assert len(other.map_shard(second)) == sizes[second]
    assert cached_bytes(cache) <= limit


def test_a_killed_process_leaves_neither_locks_nor_reserved_bytes(
    remote: Remote, ten: Path, tmp_path: Path
) -> None:
    sizes = [path.stat().st_size for path in Dataset(ten).shard_paths]
    cache = ShardCache(folder=tmp_path / "cache", limit_bytes=max(sizes), timeout_s=5)
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from aalbert.shards import Dataset\n"
        "from aalbert.shards.reading.shard_cache import ShardCache\n"
        "cache = ShardCache(folder=Path(sys.argv[2]), limit_bytes=int(sys.argv[3]))\n"
        "Dataset(sys.argv[1], cache).map_shard(0)\nprint('held', flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, remote.url, str(cache.folder), str(cache.limit_bytes)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    dataset = Dataset(remote.url, cache)
    # As if it had been killed while it fetched another shard.
    path = dataset.shard_paths[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    left = path.with_name(f"{path.name}.{0:016x}.{sizes[1]}.partial")
    left.write_bytes(b"half")
    path.with_name(path.name + ".lock").touch()
    began = time.monotonic()
    assert len(dataset.map_shard(2)) == sizes[2]
    assert time.monotonic() - began < 4
    assert not left.exists()


def test_two_datasets_share_no_files_in_the_cache(
    remote: Remote, prepared: Path, s3_client: Any, tmp_path: Path
) -> None:
    for path in prepared.rglob("*"):
        if path.is_file():
            s3_client.upload_file(str(path), "bucket", f"other/{path.relative_to(prepared)}")
    cache = ShardCache(folder=tmp_path / "cache")
    config = LoaderConfig(order=OrderConfig(frames_per_batch=150), prefetch=0)
    urls = [remote.url, remote.url.replace("/data", "/other")]
    parts = [Dataset(url, cache).select(["*"]) for url in urls]
    both = [Dataset(folder).select(["*"]) for folder in (remote.local, prepared)]
    for batch, expected in zip(Loader(parts, config), Loader(both, config), strict=True):
        assert torch.equal(batch.features, expected.features)


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AALBERT_CACHE_BYTES", "64GiB")
    with pytest.raises(ConfigError, match="AALBERT_CACHE_BYTES is '64GiB': give a number of bytes"):
        ShardCache.from_environment()


def test_a_shard_that_a_stopped_process_fetches_is_an_error_after_a_timeout(
    remote: Remote, ten: Path, tmp_path: Path
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", timeout_s=0.2)
    dataset = Dataset(remote.url, cache)
    path = dataset.shard_paths[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"has locked .*\.tar for 0\.2 s without fetching"):
            dataset.map_shard(0)
    assert len(dataset.map_shard(0)) == Dataset(ten).shard_bytes(0)


def test_what_lies_in_place_of_a_cached_shard_is_named(remote: Remote, tmp_path: Path) -> None:
    dataset = Dataset(remote.url, ShardCache(folder=tmp_path / "cache"))
    path = dataset.shard_paths[0]
    path.mkdir(parents=True)
    with pytest.raises(StorageError, match=rf"^{path} is in the way of the cache .*: delete it"):
        dataset.map_shard(0)
    path.rmdir()
    path.symlink_to("nowhere")
    dataset.map_shard(0)
    assert not path.is_symlink()


def test_a_damaged_copy_is_named(remote: Remote, tmp_path: Path) -> None:
    cache = ShardCache(folder=tmp_path / "cache")
    path = Dataset(remote.url, cache).shard_paths[0]
    Dataset(remote.url, cache).map_shard(0)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError, match=rf"delete its copy {path}, and it is fetched again$"):
        Dataset(remote.url, cache).features(0, "logmel")


def test_a_program_does_not_wait_for_what_it_fetches_ahead(
    remote: Remote, small_cache: ShardCache
) -> None:
    """Others may hold the room that it waits for as long as they like."""
    before = threading.enumerate()
    loader = Loader(Dataset(remote.url, small_cache).select(["*"]), CONFIG)
    next(iter(loader))
    started = [each for each in threading.enumerate() if each not in before]
    ahead = [each for each in started if each.name == "fetch-ahead"]
    assert all(each.daemon for each in ahead)
    loader.close()
    for each in ahead:
        each.join(30)
        assert not each.is_alive()
