"""Where a dataset lies, a folder or a URL, for what looks at its files one by one.

A `Dataset` fetches what it reads into the cache and trusts that; here every byte is of the place
itself.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import fsspec

from aalbert.common.files import cache_folder, is_side_file
from aalbert.common.store import Store, is_url, open_store
from aalbert.shards.format.dataset_folder import manifest_path
from aalbert.shards.reading.remote import fetch_manifest, mirror_folder
from aalbert.shards.reading.shard_cache import ShardCache

LOCAL_PREFIXES = ("file://", "local://")


class Place(Protocol):
    """The files of a dataset. Paths are relative to it, with `/`."""

    @property
    def name(self) -> str:
        """The folder or URL, without secrets."""

    def manifest(self) -> bytes:
        """Return the bytes of the manifest; `InputError` when there is no dataset."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, None when it is missing."""

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None when there is no such file."""

    def entries(self) -> list[str]:
        """Return the path of all content below that is not a folder, in order."""

    def local_file(self, path: str) -> AbstractContextManager[Path]:
        """Yield a file on this machine with the bytes of one at the place."""

    def cached_copy(self, path: str) -> Path | None:
        """Return where the copy of a file would be that a `Dataset` has fetched, if it fetches."""


@dataclass(frozen=True)
class LocalPlace:
    """A folder of this machine."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def manifest(self) -> bytes:
        """Return the bytes of the manifest; `InputError` when there is no dataset."""
        return manifest_path(self.folder).read_bytes()

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, None when it is missing."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None when there is no such file."""
        file = self.folder / path
        return file.stat().st_size if file.is_file() else None

    def entries(self) -> list[str]:
        """Return the path of all content below that is not a folder; a link to one is none."""
        return [
            path.relative_to(self.folder).as_posix()
            for path in sorted(self.folder.rglob("*"))
            if not is_side_file(path.name) and (path.is_symlink() or not path.is_dir())
        ]

    def local_file(self, path: str) -> AbstractContextManager[Path]:
        """Yield the file itself."""
        return nullcontext(self.folder / path)

    def cached_copy(self, path: str) -> Path | None:
        """Return None: nothing is fetched from here."""
        return None


@dataclass(frozen=True)
class StorePlace:
    """A folder in a store. Its files are fetched into `scratch`, each for as long as it is used."""

    store: Store
    scratch: Path = field(default_factory=lambda: cache_folder() / "fetched")

    @property
    def name(self) -> str:
        """The URL, without secrets."""
        return self.store.name

    def manifest(self) -> bytes:
        """Return the bytes of the manifest; `InputError` when there is no dataset."""
        return self._manifest

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, None when it is missing."""
        return self.store.read(path)

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None when there is no such file."""
        return self._sizes.get(path)

    def entries(self) -> list[str]:
        """Return the path of every file below."""
        return list(self._sizes)

    @contextmanager
    def local_file(self, path: str) -> Iterator[Path]:
        """Yield a fresh copy, which is deleted afterwards."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            copy = Path(folder, os.path.basename(path))
            self.store.get(path, copy)
            yield copy

    def cached_copy(self, path: str) -> Path | None:
        """Return where the copy of a file would be that a `Dataset` has fetched."""
        return mirror_folder(ShardCache.from_environment(), self._manifest) / path

    @cached_property
    def _manifest(self) -> bytes:
        return fetch_manifest(self.store)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The sizes at the first call: a store is listed once."""
        return self.store.sizes(unfinished=True)


def open_place(place: Path | str) -> Place:
    """Return the place that a user gave: a path, or an fsspec URL. No connection is made yet.

    Raises `ConfigError` for a URL without a backend.
    """
    if not is_url(place):
        return LocalPlace(Path(place))
    url = str(place)
    if url.startswith(LOCAL_PREFIXES):
        return LocalPlace(Path(fsspec.core.url_to_fs(url)[1]))
    return StorePlace(open_store(url))
