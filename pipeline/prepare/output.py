"""The output of `prepare`: a local folder, or a folder at any fsspec URL.

Paths are relative to it, with `/`. A file under its final name is complete.
"""

import errno
import os
import shutil
import stat
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import fsspec
import xxhash

from aalbert.common.files import (
    cache_folder,
    file_digest,
    final_name,
    is_side_file,
    remove_unfinished,
    replacing,
    require_no_link,
)
from aalbert.common.locking import hold
from aalbert.common.redaction import redact_url
from aalbert.common.store import Store, has_final_name, open_store
from aalbert.common.text import human_bytes
from aalbert.errors import OutputInUseError, StorageError, require
from aalbert.pipeline.prepare.store_lock import hold_in_store

LOCAL_PROTOCOLS = ("file", "local")


class Output(Protocol):
    """A folder to be written, by this process and by workers that get it pickled."""

    @property
    def name(self) -> str:
        """The output as the user gave it, for messages; without secrets."""

    def has(self, path: str) -> bool:
        """Return whether there is a finished file, or a folder, of that name."""

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every finished file, by path in order; the lock is among them."""

    def fetch(self, path: str) -> Path:
        """Return a local file to read: the file itself, or a copy whose size was checked."""

    def digest(self, path: str) -> str:
        """Return the hash of a file's bytes."""

    def build(self, path: str) -> AbstractContextManager[Path]:
        """Yield a local path to be written, finished or absent, and publish it afterwards.

        Nothing is published when the block raises.
        """

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; one that is missing is fine."""

    def remove_unfinished(self, names: Container[str] | None = None) -> None:
        """Remove what killed processes left of these files, or of all, which nobody writes now."""

    def free_bytes(self) -> int:
        """Return the free space of the disk that files are built on, in bytes."""

    def needed_bytes(self, files: Sequence[int], at_once: int) -> int:
        """Return the space that files of these sizes need, with `at_once` built at a time."""

    def hold(self, lock: str, shared: bool = False) -> AbstractContextManager[None]:
        """Hold the lock of that name alone, or with others that share it.

        Raises `OutputInUseError`, which names process and host, when another process has it.
        """


@dataclass(frozen=True)
class LocalOutput:
    """A folder of this machine, in which files are built under temporary names."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def has(self, path: str) -> bool:
        """Return whether there is a finished file, or a folder, of that name."""
        return (self.folder / path).exists()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every finished file, by path in order."""
        sizes: dict[str, int] = {}
        for folder, _, names in os.walk(self.folder):
            finished = (name for name in names if has_final_name(name) and not is_side_file(name))
            for path in (Path(folder, name) for name in finished):
                # Another process may remove the work folder at the same time.
                with suppress(FileNotFoundError):
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        sizes[path.relative_to(self.folder).as_posix()] = status.st_size
        return dict(sorted(sizes.items()))

    def fetch(self, path: str) -> Path:
        """Return the file itself."""
        return self.folder / path

    def digest(self, path: str) -> str:
        """Return the hash of a file's bytes."""
        return file_digest(self.folder / path)

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        """Yield the final path, in a folder that exists and is no link."""
        target = self.folder / path
        self.require_own_folders(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target

    def require_own_folders(self, path: str) -> None:
        """Raise `OutputInUseError` when a folder on the way to a file to be written is a link."""
        for folder in PurePosixPath(path).parents:
            if folder.name:
                require_no_link(self.folder / folder)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; one that is missing is fine."""
        remove_local(self.folder / path)

    def remove_unfinished(self, names: Container[str] | None = None) -> None:
        """Remove what killed processes left of these files, or of all, which nobody writes now."""
        remove_unfinished(self.folder, names)

    def free_bytes(self) -> int:
        """Return the free bytes where the folder is, or will be."""
        return free_bytes_at(self.folder)

    def needed_bytes(self, files: Sequence[int], at_once: int) -> int:
        """Return the size of all files: they stay."""
        return sum(files)

    def hold(self, lock: str, shared: bool = False) -> AbstractContextManager[None]:
        """Hold a lock file below the folder, alone or with others that share it."""
        self.require_own_folders(lock)
        return hold(self.folder / lock, shared)


@dataclass(frozen=True)
class RemoteOutput:
    """A folder at an fsspec URL; files are built in a local staging folder and then uploaded.

    The staging folder holds files that are being built, and copies of files that were read.
    It serves one output, and nothing in it counts as finished.
    """

    url: str = field(repr=False)  # may hold secrets
    staging: Path

    @property
    def store(self) -> Store:
        """The remote folder."""
        return Store(self.url)

    @property
    def name(self) -> str:
        """The URL without its secrets."""
        return self.store.name

    def has(self, path: str) -> bool:
        """Return whether there is a finished file, or a folder, of that name."""
        return self.store.has(path)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every finished file, by path in order."""
        return self.store.sizes()

    def fetch(self, path: str) -> Path:
        """Return a fresh copy in the staging folder."""
        local = self.staging / path
        # Two processes may fetch the same file.
        with replacing(local) as temporary:
            self.store.get(path, temporary)
        return local

    def digest(self, path: str) -> str:
        """Return the hash of a file's bytes, which are fetched for it."""
        local = self.fetch(path)
        try:
            return file_digest(local)
        finally:
            local.unlink()

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        """Yield a path in the staging folder, and upload the file that was written there."""
        local = self.staging / path
        local.parent.mkdir(parents=True, exist_ok=True)
        local.unlink(missing_ok=True)
        try:
            yield local
            self.store.put(local, path)
        finally:
            local.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder, and its copies."""
        self.store.remove(path)
        remove_local(self.staging / path)

    def remove_unfinished(self, names: Container[str] | None = None) -> None:
        """Remove what killed processes left of these files, or of all, which nobody writes now."""
        for path in self.store.sizes(unfinished=True):
            if not has_final_name(path) and (names is None or final_name(path) in names):
                self.store.remove(path)
        remove_unfinished(self.staging, names)

    def free_bytes(self) -> int:
        """Return the free bytes of the staging folder; those of a store are not known."""
        return free_bytes_at(self.staging)

    def needed_bytes(self, files: Sequence[int], at_once: int) -> int:
        """Return the size of the largest files built at a time: each is deleted after upload."""
        return sum(sorted(files, reverse=True)[:at_once])

    def hold(self, lock: str, shared: bool = False) -> AbstractContextManager[None]:
        """Hold a lock in the store, alone or with others that share it."""
        return hold_in_store(self.store, lock, shared)


def open_output(out: str, staging: Path | None = None) -> Output:
    """Return the output that a user gave: a path, or an fsspec URL.

    `staging` is the folder where files of a remote output are built: by default one of its
    own in the user's cache. No connection is made yet. Raises `ConfigError` when there
    is no backend for the URL.
    """
    protocol, separator, _ = out.partition("://")
    if not separator:
        if Path(out).is_file():
            raise OutputInUseError(f"{out} is a file: choose another --out")
        return LocalOutput(Path(out))
    if protocol in LOCAL_PROTOCOLS:
        return LocalOutput(Path(fsspec.core.url_to_fs(out)[1]))
    require(
        "::" not in out,
        f"{redact_url(out)} is a chain of URLs, which cannot be written: give one URL",
    )
    url = open_store(out).url
    staging = staging or cache_folder() / "staging" / xxhash.xxh3_64_hexdigest(url.encode("utf-8"))
    return RemoteOutput(url, staging)


def remove_local(path: Path) -> None:
    """Remove a file or a whole folder; one that is missing is fine.

    Files that another process adds to the folder at the same time stay, and so does the
    folder: another process may take the lock as soon as its file is gone.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, inner, names in os.walk(path, topdown=False):
        # Links to folders are among these, and are not entered.
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        for name in (*names, *links):
            Path(folder, name).unlink(missing_ok=True)
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def free_bytes_at(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or will be on."""
    absolute = folder.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    return shutil.disk_usage(existing).free


def require_space(needed: int, free: int, place: str) -> None:
    """Raise `StorageError` when `needed` bytes do not fit into the `free` bytes of a place."""
    if needed > free:
        raise StorageError(
            f"needs about {human_bytes(needed)}, {human_bytes(free)} free in {place}: "
            "make room there, or choose another --out"
        )
