"""A cache folder of limited size for fetched shards, shared by all processes of a host.

Every shard has a lock file. A process that reads the shard holds a shared lock; one that fetches
it, or removes it to make room, holds an exclusive lock. The operating system releases the locks
of a process that ends for any reason, so nothing has to be cleaned up before others continue.
"""

import errno
import fcntl
import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aalbert.common.files import (
    TEMPORARY_SUFFIX,
    cache_folder,
    file_digest,
    plain_file,
    temporary_name,
)
from aalbert.common.store import Store
from aalbert.errors import ConfigError, IntegrityError, StorageError
from aalbert.shards.format.manifest import FileRecord

DEFAULT_LIMIT_BYTES = 64 * 2**30
LIMIT_VARIABLE = "AALBERT_CACHE_BYTES"
LOCK_SUFFIX = ".lock"
# The time that a process waits for others to release shards, and the time between two attempts.
TIMEOUT_S = 600.0
RETRY_INTERVAL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """The folder of fetched shards and its limit in bytes."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    timeout_s: float = TIMEOUT_S

    @classmethod
    def from_environment(cls) -> "ShardCache":
        """Return the user's cache, with the limit that the environment sets, or the default.

        Raises `ConfigError` when that limit is not a number.
        """
        limit = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT_BYTES))
        if not limit.isdecimal():
            raise ConfigError(f"{LIMIT_VARIABLE} is '{limit}': give a number of bytes")
        return cls(folder=cache_folder() / "shards", limit_bytes=int(limit))

    def fetch_and_lock(self, store: Store, record: FileRecord, path: Path) -> IO[bytes]:
        """Fetch a shard to `path` below the folder, unless it is there, and return its lock.

        Close the lock to release the shard. Raises `StorageError` when the shard cannot be
        fetched, or when others do not release enough shards, and `IntegrityError` when the bytes
        in the store do not match their hash.
        """
        with naming_what_is_in_the_way(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open_lock(path)
        try:
            while True:
                self._lock(lock, fcntl.LOCK_SH, path)
                if is_complete(path, record):
                    os.utime(path)
                    return lock
                self._lock(lock, fcntl.LOCK_EX, path)
                if not is_complete(path, record):
                    self._fetch_locked(store, record, path)
        except BaseException:
            lock.close()
            raise

    def check_room(self, needed_bytes: int, windows: str) -> None:
        """Raise `ConfigError` when shards that are needed at once exceed the limit."""
        if needed_bytes > self.limit_bytes:
            raise ConfigError(
                f"{windows} needs {needed_bytes:,} bytes of shards at once, the cache in "
                f"{self.folder} may hold {self.limit_bytes:,}: set {LIMIT_VARIABLE} higher, or "
                "window_shards lower"
            )

    def _lock(self, lock: IO[bytes], operation: int, path: Path) -> None:
        """Lock a shard; `StorageError` when the process that fetches it makes no progress."""
        fetched, deadline = -1, 0.0
        while True:
            try:
                fcntl.flock(lock, operation | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                size = fetched_bytes(path)
            if size != fetched:
                fetched, deadline = size, time.monotonic() + self.timeout_s
            elif time.monotonic() > deadline:
                raise StorageError(
                    f"another process has locked {path} for {self.timeout_s:g} s without fetching "
                    "any of it: end that process, or wait for it and run the same command again"
                )
            time.sleep(RETRY_INTERVAL_S)

    def _fetch_locked(self, store: Store, record: FileRecord, path: Path) -> None:
        """Fetch a shard whose exclusive lock is held."""
        # The name has the size that is reserved while the file grows.
        partial = path.with_name(temporary_name(path.name, f".{record.size}"))
        self._reserve(record.size, partial)
        try:
            store.get(record.path, partial)
            if file_digest(partial) != record.xxh3:
                raise IntegrityError(
                    f"{store.name}/{record.path} is not what was written (checksum); restore it, "
                    "or prepare the data again"
                )
            with self._sizes_locked(), naming_what_is_in_the_way(self.folder):
                partial.replace(path)
        finally:
            with self._sizes_locked():
                partial.unlink(missing_ok=True)

    def _reserve(self, size: int, partial: Path) -> None:
        """Make room for a file and reserve it by an empty file whose name has the size."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            with self._sizes_locked():
                if self._make_room(size):
                    partial.touch(exist_ok=False)
                    return
            if time.monotonic() > deadline:
                raise StorageError(
                    f"no room for {size:,} bytes in {self.folder}, which may hold "
                    f"{self.limit_bytes:,}: other processes have held its shards for "
                    f"{self.timeout_s:g} s; set {LIMIT_VARIABLE} higher, or window_shards lower"
                )
            time.sleep(RETRY_INTERVAL_S)

    def _make_room(self, size: int) -> bool:
        """Remove shards without a reader, least recently used first; return whether `size` fits."""
        files = {
            path: path.lstat()
            for path in self.folder.rglob("*.tar*")
            if path.suffix in (".tar", TEMPORARY_SUFFIX) and (path.is_symlink() or path.is_file())
        }
        sizes = {path: occupied_bytes(path, found.st_size) for path, found in files.items()}
        for path in sorted(files, key=lambda path: files[path].st_mtime):
            if sum(sizes.values()) + size <= self.limit_bytes:
                break
            if remove_unused(path):
                del sizes[path]
        return sum(sizes.values()) + size <= self.limit_bytes

    @contextmanager
    def _sizes_locked(self) -> Iterator[None]:
        """Let only one process at a time add up sizes and reserve bytes."""
        with open(self.folder / f"cache{LOCK_SUFFIX}", "ab", opener=plain_file) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def is_complete(path: Path, record: FileRecord) -> bool:
    """Return whether a shard is present with its size; its arrays have their own checksums."""
    return path.is_file() and path.stat().st_size == record.size


def fetched_bytes(path: Path) -> int:
    """Return the bytes of a shard that have been fetched so far."""
    growing = path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY_SUFFIX}")
    return sum(size_of(each) or 0 for each in growing)


def occupied_bytes(path: Path, size: int) -> int:
    """Return the size of a shard, or the final size of one that is being fetched."""
    reserved = path.name.split(".")[-2]
    return int(reserved) if path.suffix == TEMPORARY_SUFFIX and reserved.isdecimal() else size


def size_of(path: Path) -> int | None:
    """Return the size of a file, None when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


@contextmanager
def naming_what_is_in_the_way(folder: Path) -> Iterator[None]:
    """Raise `StorageError` where something else lies in place of a file or folder of the cache."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            raise
        raise StorageError(
            f"{error.filename2 or error.filename} is in the way of the cache "
            f"({error.strerror}): delete it, or all of {folder}, and it is fetched again"
        ) from error


def lock_file(path: Path) -> Path:
    """Return the lock file of a shard, or of one that is being fetched."""
    shard, suffix, _ = path.name.partition(".tar")
    return path.with_name(shard + suffix + LOCK_SUFFIX)


def open_lock(path: Path) -> IO[bytes]:
    """Open the lock file of a shard."""
    return open(lock_file(path), "ab", opener=plain_file)


def remove_unused(path: Path) -> bool:
    """Remove a shard, or the rest of an interrupted fetch, unless a process has locked it."""
    with open_lock(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
        return True
