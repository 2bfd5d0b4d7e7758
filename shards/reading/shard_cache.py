"""A bounded folder of shards that were fetched from a store, shared by all processes of a host.

Beside every shard lies a lock file. Who reads the shard shares its lock; who fetches it, or
removes it to make room, holds it alone. The system lets go of the locks of a process that ends,
however it ends, so nothing has to be cleaned up before others can go on.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aalbert.common.files import TEMPORARY_SUFFIX, cache_folder, file_digest
from aalbert.common.store import Store
from aalbert.errors import ConfigError, IntegrityError, StorageError
from aalbert.shards.format.manifest import FileRecord

DEFAULT_LIMIT_BYTES = 64 * 2**30
LIMIT_VARIABLE = "AALBERT_CACHE_BYTES"
LOCK_SUFFIX = ".lock"
# How long a process waits for others to let go of shards, and how often it looks.
PATIENCE_S = 600.0
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """Where fetched shards are kept, and how many bytes of them at most."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    patience_s: float = PATIENCE_S

    @classmethod
    def of_the_user(cls) -> "ShardCache":
        """Return the user's cache; its limit can be set in the environment."""
        limit = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT_BYTES))
        if not limit.isdecimal():
            raise ConfigError(f"{LIMIT_VARIABLE} is '{limit}': give a number of bytes")
        return cls(folder=cache_folder() / "shards", limit_bytes=int(limit))

    def fetch(self, store: Store, record: FileRecord, path: Path) -> IO[bytes]:
        """Return a lock on the shard at `path` below the folder, which is there and whole.

        Close it to let go of the shard. Raises `StorageError` when it cannot be fetched, or
        when others do not let go of enough shards, and `IntegrityError` when the store holds
        other bytes than were written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_file(path).open("ab")
        try:
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if is_whole(path, record):
                    os.utime(path)
                    return lock
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not is_whole(path, record):
                    self._fetch_alone(store, record, path)
        except BaseException:
            lock.close()
            raise

    def check_room(self, needed_bytes: int, windows: str) -> None:
        """Raise `ConfigError` when what has to be held at once is larger than the cache."""
        if needed_bytes > self.limit_bytes:
            raise ConfigError(
                f"{windows} needs {needed_bytes:,} bytes of shards at once, the cache in "
                f"{self.folder} may hold {self.limit_bytes:,}: set {LIMIT_VARIABLE} higher, or "
                "window_shards lower"
            )

    def _fetch_alone(self, store: Store, record: FileRecord, path: Path) -> None:
        """Fetch a shard while its lock is held."""
        # The name says how much is taken while the file grows.
        partial = path.with_name(f"{path.name}.{record.size}{TEMPORARY_SUFFIX}")
        self._reserve(record.size, partial)
        try:
            store.get(record.path, partial)
            if file_digest(partial) != record.xxh3:
                raise IntegrityError(
                    f"{store.name}/{record.path} is not what was written (checksum); restore it, "
                    "or prepare the data again"
                )
            with self._bookkeeping():
                partial.replace(path)
        finally:
            with self._bookkeeping():
                partial.unlink(missing_ok=True)

    def _reserve(self, size: int, partial: Path) -> None:
        """Make room for a file and take it, by an empty file whose name says its size."""
        deadline = time.monotonic() + self.patience_s
        while True:
            with self._bookkeeping():
                if self._make_room(size):
                    partial.touch()
                    return
            if time.monotonic() > deadline:
                raise StorageError(
                    f"no room for {size:,} bytes in {self.folder}, which may hold "
                    f"{self.limit_bytes:,}: other processes have held its shards for "
                    f"{self.patience_s:g} s; set {LIMIT_VARIABLE} higher, or window_shards lower"
                )
            time.sleep(LOOK_AGAIN_S)

    def _make_room(self, size: int) -> bool:
        """Remove shards that nobody reads, the longest unused first, until a file fits."""
        taken = {path: bytes_taken(path) for path in self.folder.rglob("*.tar*") if counts(path)}
        for path in sorted(taken, key=last_use):
            if sum(taken.values()) + size <= self.limit_bytes:
                break
            if remove_unused(path):
                del taken[path]
        return sum(taken.values()) + size <= self.limit_bytes

    @contextmanager
    def _bookkeeping(self) -> Iterator[None]:
        """Let one process at a time count and reserve."""
        with (self.folder / f"cache{LOCK_SUFFIX}").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def is_whole(path: Path, record: FileRecord) -> bool:
    """Say whether a shard is there with its size; its arrays have checksums of their own."""
    return path.is_file() and path.stat().st_size == record.size


def counts(path: Path) -> bool:
    """Say whether a file is a shard, or one that is being fetched."""
    return path.suffix in (".tar", TEMPORARY_SUFFIX)


def bytes_taken(path: Path) -> int:
    """Return the bytes of a shard, or those that one being fetched will have."""
    if path.suffix == TEMPORARY_SUFFIX:
        return int(path.name.split(".")[-2])
    return path.stat().st_size


def last_use(path: Path) -> float:
    """Return when a shard was asked for the last time."""
    return path.stat().st_mtime


def lock_file(path: Path) -> Path:
    """Return the lock file of a shard, or of one that is being fetched."""
    name = path.name
    if path.suffix == TEMPORARY_SUFFIX:
        name = name.rsplit(".", 2)[0]
    return path.with_name(name + LOCK_SUFFIX)


def remove_unused(path: Path) -> bool:
    """Remove a shard, or what a dead process left of one, unless somebody holds its lock."""
    with lock_file(path).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
        return True
