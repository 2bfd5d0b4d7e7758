"""The local part of a dataset in a store: indexes, and shards when they are needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import xxhash

from aalbert.common.files import file_digest, replacing
from aalbert.common.store import Store, open_store
from aalbert.errors import InputError, IntegrityError
from aalbert.shards.format.dataset_folder import MANIFEST_NAME
from aalbert.shards.format.manifest import FileRecord, Manifest, parse_manifest
from aalbert.shards.reading.shard_cache import ShardCache, naming_what_is_in_the_way


@dataclass(frozen=True)
class Mirror:
    """A folder in the cache with the fetched part of a dataset in a store.

    It is named after the hash of the manifest: equal datasets share it, whatever their URL, and
    a dataset that was prepared again gets another.
    """

    store: Store
    cache: ShardCache
    folder: Path

    def fetch_indexes(self, manifest: Manifest) -> None:
        """Fetch index and statistics of every split, unless they are in the cache.

        Raises `IntegrityError` when the store lacks a file, has one of another size, or has a
        shard that is not in the manifest.
        """
        present = self.store.sizes()
        manifest.check_sizes(self.store.name, present)
        recorded = {record.path for record in manifest.files}
        for path in present:
            if path.endswith(".tar") and path not in recorded:
                raise IntegrityError(
                    f"{self.store.name}/{path} is no part of the dataset: the manifest does not "
                    "record it; move it elsewhere"
                )
        for split in manifest.splits.values():
            for record in (split.index, split.statistics):
                self.fetch_file(record)

    def fetch_and_lock(self, record: FileRecord) -> IO[bytes]:
        """Fetch a shard unless it is in the cache, and return its lock; see `ShardCache`."""
        return self.cache.fetch_and_lock(self.store, record, self.folder / record.path)

    def fetch_file(self, record: FileRecord) -> None:
        """Fetch a small file unless it is in the cache."""
        path = self.folder / record.path
        if path.is_file() and file_digest(path) == record.xxh3:
            return
        # Several processes, and threads, may open the dataset at once.
        with naming_what_is_in_the_way(self.cache.folder), replacing(path) as temporary:
            self.store.get(record.path, temporary)


def open_mirror(url: str, cache: ShardCache) -> tuple[Mirror, Manifest]:
    """Fetch the manifest of the dataset at a URL; return it, and its folder in the cache.

    Raises `InputError` when there is none, `ConfigError` for a URL without a backend,
    `StorageError` when the store does not answer.
    """
    store = open_store(url)
    content = fetch_manifest(store)
    manifest = parse_manifest(content, store.name)
    folder = mirror_folder(cache, content)
    return Mirror(store, cache, folder), manifest


def fetch_manifest(store: Store) -> bytes:
    """Return the bytes of a dataset's manifest.

    Raises `InputError` when there is none, `StorageError` when the store does not answer.
    """
    content = store.read(MANIFEST_NAME)
    if content is not None:
        return content
    if not store.has(""):
        raise InputError(
            f"there is nothing at {store.name}: check the URL, and that its bucket exists, or make "
            f"the dataset with 'aalbert prepare CORPUS DIR --out {store.name}'"
        )
    raise InputError(
        f"{store.name} has no {MANIFEST_NAME}: it is not a dataset made by 'aalbert prepare', "
        "or its 'prepare' was interrupted (run the same command again to finish it)"
    )


def mirror_folder(cache: ShardCache, manifest: bytes) -> Path:
    """Return the folder in the cache for the dataset whose manifest has these bytes."""
    return cache.folder / xxhash.xxh3_128_hexdigest(manifest)
