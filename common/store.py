"""A remote folder behind fsspec: failed calls are retried, then reported in one line."""

import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import xxhash
from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from aalbert.common import silence
from aalbert.common.files import TEMPORARY_SUFFIX, file_digest, is_side_file, temporary_name
from aalbert.common.redaction import redact, redact_url
from aalbert.common.signals import pause
from aalbert.errors import ConfigError, StorageError, require

T = TypeVar("T")

# Seconds before the second, third and fourth attempt. A backend's own quick retries come on top.
RETRY_WAITS_S = (1.0, 4.0, 16.0)
# Errors that a retry does not resolve.
PERMANENT_ERRORS = (PermissionError, FileNotFoundError, NotImplementedError, ValueError)
# Faults of the local disk during a download; the command line has messages for them.
LOCAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# Stores where an object that is put appears complete or not at all. There a rename
# would be a copy; elsewhere a file that is being written can be seen.
ATOMIC_PROTOCOLS = {"s3", "s3a"}
READ_BACK_BLOCK_BYTES = 2**23
# The extras of this package that install the backend of a protocol.
EXTRAS = {"s3": "s3", "s3a": "s3", "hf": "hub"}
# Of a chain of URLs, such as `simplecache::s3://bucket`, the first link is read.
PROTOCOL_END = re.compile("::|://")


@dataclass(frozen=True)
class Store:
    """A folder at an fsspec URL; paths are relative to it.

    It holds no connection, so it can be pickled. What a backend needs to connect
    (credentials, an endpoint) comes from fsspec's configuration and the backend's own,
    such as `FSSPEC_S3_ENDPOINT_URL` and `AWS_PROFILE`. All methods raise `StorageError`
    when the store cannot be used, after several attempts where a retry may help.
    """

    url: str = field(repr=False)  # may hold secrets

    @property
    def name(self) -> str:
        """The URL as it is shown, without its secrets."""
        return redact_url(self.url)

    def has(self, path: str) -> bool:
        """Return whether there is a file, or a folder, of that name."""

        def request() -> bool:
            filesystem, target = self.locate(path)
            return filesystem.info(target) is not None

        return bool(self.call_or_none(request, path))

    def sizes(self, *, unfinished: bool = False) -> dict[str, int]:
        """Return the bytes of every file below, by relative path; temporary ones if asked for.

        Those that systems put there on their own are left out; see `is_side_file`.
        """

        def request() -> dict[str, int]:
            filesystem, root = self.locate("")
            found = filesystem.find(root, detail=True).items()
            # On S3 there may be empty objects `NAME/` that stand for folders.
            return {
                name.removeprefix(root): size_of(filesystem, name, info)
                for name, info in found
                if name.startswith(root) and not name.endswith("/")
            }

        sizes = self.call_or_none(request, "") or {}
        return {
            path: sizes[path]
            for path in sorted(sizes)
            if not is_side_file(path) and (unfinished or has_final_name(path))
        }

    def files_in(self, folder: str) -> list[str]:
        """Return the paths of the direct children of a folder."""

        def request() -> list[str]:
            filesystem, target = self.locate(folder)
            return [name.rsplit("/", 1)[1] for name in filesystem.ls(target, detail=False)]

        return [f"{folder}/{name}" for name in sorted(self.call_or_none(request, folder) or [])]

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, None when it is missing."""

        def request() -> bytes | None:
            filesystem, target = self.locate(path)
            return bytes(filesystem.cat_file(target))

        return self.call_or_none(request, path)

    def write(self, path: str, content: bytes) -> None:
        """Write a small file, in place of one that is there."""
        self.call(lambda: self.pipe(path, content, "overwrite"), path)

    def create(self, path: str, content: bytes) -> bool:
        """Write a small file and return True; False if there is one already.

        On S3 this is one conditional request (`If-None-Match`); of several, one succeeds.
        """

        def request() -> bool:
            try:
                self.pipe(path, content, "create")
            except OSError:
                # Not every S3 store reports that it was this condition which failed.
                if self.has(path):
                    return False
                raise
            return True

        return self.call(request, path)

    def put(self, local: Path, path: str) -> None:
        """Copy a local file into the store, whole or not at all under its final name.

        It is read back from the store and hashed, which costs a download of its size:
        no other proof is common to all stores, or to all settings of S3.
        """
        size, digest = local.stat().st_size, file_digest(local)
        self.call(lambda: self.upload(local, path, size, digest), path)

    def get(self, path: str, local: Path) -> None:
        """Copy a file of the store to a local path and check its size.

        Raises `StorageError` also when there is none.
        """

        def request() -> None:
            filesystem, source = self.locate(path)
            filesystem.get_file(source, str(local))
            check_size(local.stat().st_size, filesystem.info(source)["size"])

        self.call(request, path)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; one that is missing is fine."""

        def request() -> None:
            filesystem, target = self.locate(path)
            if has_magic(target):
                remove_one_by_one(filesystem, target)
            else:
                filesystem.rm(target, recursive=True)

        self.call_or_none(request, path)

    def locate(self, path: str) -> tuple[Any, str]:
        """Return the filesystem, which fsspec keeps for reuse, and the full path there."""
        filesystem, root = fsspec.core.url_to_fs(self.url, **silence.options(self.url))
        # Other processes write here too, so cached listings may be outdated.
        filesystem.invalidate_cache()
        return filesystem, f"{root}/{path}"

    def pipe(self, path: str, content: bytes, mode: str) -> None:
        """Write a small file, without retries."""
        filesystem, target = self.locate(path)
        make_parent(filesystem, target)
        filesystem.pipe_file(target, content, mode=mode)

    def upload(self, local: Path, path: str, size: int, digest: str) -> None:
        """Upload a file without retries, to its name if that is atomic, else beside it first."""
        filesystem, target = self.locate(path)
        folder, _, name = target.rpartition("/")
        place = target if is_atomic(filesystem) else f"{folder}/{temporary_name(name)}"
        make_parent(filesystem, target)
        try:
            filesystem.put_file(str(local), place)
        except Exception:
            # No later attempt has this name. At the final one may be a file of an earlier run.
            if place != target and filesystem.exists(place):
                filesystem.rm_file(place)
            raise
        try:
            check_size(filesystem.info(place)["size"], size)
            check_digest(filesystem, place, digest)
        except Exception:
            filesystem.rm_file(place)
            raise
        if place != target:
            # Over SFTP and SMB nothing can be moved onto a file that an earlier run put there.
            if filesystem.exists(target):
                filesystem.rm_file(target)
            move(filesystem, place, target)

    def call_or_none(self, action: Callable[[], T], path: str) -> T | None:
        """Call the store for something that may be missing; None if it is."""

        def request() -> T | None:
            try:
                return action()
            except FileNotFoundError:
                return None

        return self.call(request, path)

    def call(self, action: Callable[[], T], path: str) -> T:
        """Call the store, with retries where they may help; `StorageError` when it fails."""
        waits_s = iter(RETRY_WAITS_S)
        while True:
            try:
                return action()
            # Each backend has its own exceptions, without a common base class.
            except Exception as error:
                if isinstance(error, OSError) and error.errno in LOCAL_ERRNOS:
                    raise
                permanent = isinstance(error, PERMANENT_ERRORS) or lacks_credentials(error)
                wait_s = None if permanent else next(waits_s, None)
                if wait_s is None:
                    url = f"{self.name}/{path}".rstrip("/")
                    raise StorageError(f"{url}: {redact(explain(error))}") from error
            pause(wait_s)


def open_store(url: str) -> Store:
    """Return the folder at a URL that a user gave; no connection is made yet.

    Raises `ConfigError` when there is no backend for the URL, or it names no bucket or host.
    """
    require_backend(url)
    protocol, _, rest = url.partition("://")
    require(
        bool(rest.strip("/")) or protocol == "memory",
        f"{redact_url(url)} names no bucket or host",
    )
    return Store(url.rstrip("/") if rest.strip("/") else url)


def require_backend(url: str) -> None:
    """Raise `ConfigError` when fsspec does not know the protocol, or needs a package for it."""
    place, protocol = redact_url(url), PROTOCOL_END.split(url)[0]
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise ConfigError(f"{place}: fsspec knows no '{protocol}://', try s3://") from error
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        way_out = f"pip install 'aalbert[{extra}]'" if extra else str(error)
        raise ConfigError(f"{place} needs a package that is not installed: {way_out}") from error


def is_url(place: Path | str) -> bool:
    """Return whether a place is a URL, not a path."""
    return isinstance(place, str) and "://" in place


def is_atomic(filesystem: Any) -> bool:
    """Return whether an uploaded file appears complete or not at all."""
    protocols = filesystem.protocol
    return not ATOMIC_PROTOCOLS.isdisjoint([protocols] if isinstance(protocols, str) else protocols)


def size_of(filesystem: Any, name: str, listed: dict[str, Any]) -> int:
    """Return the bytes of a file; a web server's list does not say, the file's own header does."""
    size = listed["size"]
    return int(filesystem.info(name)["size"] if size is None else size)


def has_final_name(path: str) -> bool:
    """Return whether a file has its final name, not that of one still being written."""
    return not path.endswith(TEMPORARY_SUFFIX)


def remove_one_by_one(filesystem: Any, target: str) -> None:
    """Remove a file or a whole folder whose name fsspec would take for a pattern."""
    if filesystem.info(target)["type"] == "file":
        filesystem.rm_file(target)
        return
    for file in filesystem.find(target):
        filesystem.rm_file(file)
    if not is_atomic(filesystem):
        for folder, _, _ in sorted(filesystem.walk(target), reverse=True):
            filesystem.rmdir(folder)


def move(filesystem: Any, source: str, target: str) -> None:
    """Move a file; fsspec's own way, where a backend has none, would take names for patterns."""
    if type(filesystem).mv is AbstractFileSystem.mv:
        filesystem.cp_file(source, target)
        filesystem.rm_file(source)
    else:
        filesystem.mv(source, target)


def make_parent(filesystem: Any, target: str) -> None:
    """Make the folder of a file where folders exist; on S3 that would make a bucket."""
    if not is_atomic(filesystem):
        filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)


def check_size(found: int, expected: int) -> None:
    """Raise `OSError` when a copy has another size."""
    if found != expected:
        raise OSError(errno.EIO, f"the copy has {found:,} of {expected:,} bytes")


def check_digest(filesystem: Any, place: str, digest: str) -> None:
    """Raise `OSError` when a file of the store, read back, has another hash."""
    with filesystem.open(place, "rb", block_size=READ_BACK_BLOCK_BYTES) as stream:
        found = hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()
    if found != digest:
        raise OSError(errno.EIO, f"the copy has the hash {found} instead of {digest}")


def lacks_credentials(error: Exception) -> bool:
    """Return whether credentials are missing: each backend has its own `...CredentialsError`."""
    return type(error).__name__.endswith("CredentialsError")


def explain(error: Exception) -> str:
    """Return the cause of a failure and the way out, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    silent = "it does not answer" if isinstance(error, TimeoutError) else type(error).__name__
    cause = " ".join(text.split()).rstrip(".") or silent
    if lacks_credentials(error):
        return (
            f"{cause}: set those that its fsspec backend reads "
            "(S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if isinstance(error, PermissionError):
        return f"{cause}: check the credentials and what they allow"
    if isinstance(error, FileNotFoundError):
        return f"{cause}: check the URL, and that its bucket exists"
    if isinstance(error, PERMANENT_ERRORS):
        return f"{cause}: choose another place"
    return (
        f"{cause} (tried {len(RETRY_WAITS_S) + 1} times): run the same command again later, "
        "finished work is kept"
    )
