"""Random access to the members of a `.tar.gz`; no member is ever written to disk."""

import fcntl
import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated

import indexed_gzip
import xxhash
from annotated_types import Ge, Le

from aalbert.common.files import (
    atomic_write,
    file_digest,
    is_side_file,
    plain_file,
    remove_unfinished,
    write_text,
)
from aalbert.common.json_files import read_record
from aalbert.common.locking import flock
from aalbert.common.progress import BYTES, progress_bar
from aalbert.common.signals import stop_if_asked, stoppable
from aalbert.common.text_files import decode_text
from aalbert.errors import InputError, IntegrityError
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Skip

CHUNK_BYTES = 2**20
# The unpacked bytes between two calls of `ForwardStream.advance`.
STEP_BYTES = 2**26
LARGEST_MEMBER = 2**31
# The most that is read at once: a header, its extension such as a long name, or a text.
LARGEST_READ = 2**20
END_BLOCK = bytes(tarfile.BLOCKSIZE)
# A read unpacks on average half the distance between two seek points, and each point takes
# 32 KiB of the reader's memory: 1 MiB apart, but at most about this many (128 MiB).
MOST_SEEK_POINTS = 4096
SMALLEST_SPACING = 2**20
# What `gzip`, `indexed_gzip` and `tarfile` raise for damaged or malicious bytes.
DAMAGE_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    tarfile.TarError,
    ValueError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file in an archive: `size` bytes from `offset` in the unpacked bytes."""

    name: str
    offset: Annotated[int, Ge(0)]
    size: Annotated[int, Ge(0), Le(LARGEST_MEMBER)]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The contents of an archive, in its order; of members with the same name, the last one.

    `texts` has the contents of the text members that were requested, by name.
    """

    members: tuple[Member, ...]
    skipped: tuple[Skip, ...]
    texts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ListingNotes:
    """A listing in the cache: size and time of its archive, the texts kept, its index's hash."""

    size: int
    mtime_ns: int
    kept: tuple[str, ...]
    index_xxh3: str
    listing: Listing


class ForwardStream(io.RawIOBase):
    """The unpacked bytes of an archive, read once and only forward.

    `tarfile` reads headers from it and seeks over the data between them. `advance` is
    called with the position at intervals, and at the end.
    """

    def __init__(self, unpacked: gzip.GzipFile, advance: Callable[[int], None]) -> None:
        self.unpacked = unpacked
        self.advance = advance
        self.advanced_to = 0
        self.position = 0
        self.last_read = b""

    def tell(self) -> int:
        """Return the number of bytes read or skipped."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; `tarfile.ReadError` for more than a header or text has."""
        if not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header or text of {size} bytes")
        self.last_read = self.take(size)
        return self.last_read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skip the bytes up to `offset`; `tarfile.ReadError` when it is before the position."""
        if offset < self.position or whence != io.SEEK_SET:
            raise tarfile.ReadError("a header that points backwards")
        while self.position < offset and self.take(min(CHUNK_BYTES, offset - self.position)):
            pass
        return self.position

    def finish(self) -> None:
        """Skip the rest, at whose end `gzip` checks the checksum and the size."""
        while self.take(CHUNK_BYTES):
            pass
        self.advance(self.position)

    def take(self, size: int) -> bytes:
        """Unpack up to `size` bytes."""
        data = self.unpacked.read(size)
        self.position += len(data)
        if self.position >= self.advanced_to + STEP_BYTES:
            self.advance(self.position)
            self.advanced_to = self.position
        return data


def scan(archive: Path, stream: ForwardStream, kept: tuple[str, ...]) -> Listing:
    """List what a tar holds, with the texts of the members whose names end in one of `kept`.

    Raises `tarfile.ReadError` when it ends without its end mark, and `InputError` for a text
    that cannot be read.
    """
    members: dict[str, Member] = {}
    skipped: dict[str, Skip] = {}
    texts: dict[str, str] = {}
    for info in read_headers(stream):
        # The later one wins, as when the archive is unpacked, also where it is refused.
        for earlier in (members, skipped, texts):
            earlier.pop(info.name, None)
        if (reason := refusal(info)) is not None:
            skipped[info.name] = Skip(source=printable(info.name), reason=reason)
            continue
        members[info.name] = Member(name=info.name, offset=info.offset_data, size=info.size)
        if info.name.endswith(kept):
            texts[info.name] = decode_text(stream.read(info.size), f"{archive}: {info.name}")
    # `tarfile` treats a header that it cannot read as the end of the archive.
    if stream.last_read != END_BLOCK:
        raise tarfile.ReadError("a header that cannot be read, or no end mark")
    stream.finish()
    return Listing(members=tuple(members.values()), skipped=tuple(skipped.values()), texts=texts)


def read_headers(stream: ForwardStream) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar, except those of folders and side files."""
    with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
            if not (info.isdir() or is_side_file(info.name)):
                yield info


def refusal(info: tarfile.TarInfo) -> str | None:
    """Return why a member is refused; None when it is accepted."""
    path = PurePosixPath(info.name)
    if path.is_absolute():
        return "has an absolute name in the archive"
    if ".." in path.parts:
        return "has a name with '..' in the archive"
    if printable(info.name) != info.name:
        return "has a name in the archive that is not UTF-8"
    if info.issym() or info.islnk():
        return "is a link in the archive"
    if not info.isreg() or info.issparse():
        return "is a device or another special file in the archive"
    if not 0 <= info.size <= LARGEST_MEMBER:
        return f"claims to be larger than 2 GiB: {info.size} bytes"
    return None


def printable(name: str) -> str:
    """Return a name with the bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def index_path(cache: Path, archive: Path) -> Path:
    """Return the path of an archive's seek index in the folder `cache`."""
    place = xxhash.xxh3_64_hexdigest(os.fsencode(archive.resolve().parent))
    return cache / f"{archive.name}-{place}.index"


def list_members(archive: Path, index: Path, kept: tuple[str, ...] = ()) -> Listing:
    """List the members of an archive and write its seek index to `index`.

    Members whose names end in one of `kept` are small texts to return with the list. The
    archive is read once, from end to end with its checksum; an archive of the same size and
    time is not read again. Of several processes, one reads and the others wait.
    Members that are unsafe or unreadable are skipped. Raises `InputError` when the archive
    is damaged or cut off.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    notes = index.with_suffix(".json")
    with open(index.with_suffix(".lock"), "ab", opener=plain_file) as lock:
        flock(lock, fcntl.LOCK_EX)
        request = (archive.stat().st_size, archive.stat().st_mtime_ns, kept)
        if (known := read_listing(notes, index, request)) is not None:
            return known
        remove_unfinished(index.parent, (index.name, notes.name))
        listing = read_archive(archive, index, kept)
        size, mtime_ns, _ = request
        found = ListingNotes(
            size=size,
            mtime_ns=mtime_ns,
            kept=kept,
            index_xxh3=file_digest(index),
            listing=listing,
        )
        write_text(notes, json.dumps(asdict(found)))
    return listing


def read_listing(
    notes: Path, index: Path, request: tuple[int, int, tuple[str, ...]]
) -> Listing | None:
    """Return the cached listing, if it is of this archive and its index is intact."""
    if not (notes.is_file() and index.is_file()):
        return None
    # Another version, or another user of the cache, may have written it.
    try:
        known = read_record(ListingNotes, notes, "delete it")
    except IntegrityError:
        return None
    is_of_it = (known.size, known.mtime_ns, known.kept) == request
    return known.listing if is_of_it and known.index_xxh3 == file_digest(index) else None


def read_archive(archive: Path, index: Path, kept: tuple[str, ...]) -> Listing:
    """Read an archive from end to end, list it, and write its seek index."""
    size = archive.stat().st_size
    spacing = max(SMALLEST_SPACING, size // MOST_SEEK_POINTS)
    with (
        stoppable(),
        archive.open("rb") as packed,
        indexed_gzip.IndexedGzipFile(
            archive, spacing=spacing, drop_handles=False, buffer_size=1
        ) as indexed,
        progress_bar(f"index {archive.name}", total=size, unit=BYTES) as bar,
    ):

        def advance(position: int) -> None:
            stop_if_asked()
            indexed.seek(position)
            bar.reach(packed.tell())

        try:
            listing = scan(archive, ForwardStream(gzip.GzipFile(fileobj=packed), advance), kept)
        except DAMAGE_ERRORS as error:
            raise InputError(
                f"{archive} is damaged or incomplete ({error or type(error).__name__}): "
                "delete it and download it again"
            ) from error
        with atomic_write(index) as output:
            indexed.export_index(fileobj=output)
    return listing


def read_member(archive: Path, index: Path, offset: int, size: int) -> bytes:
    """Return `size` bytes from `offset` in the unpacked bytes of an archive.

    Raises `UnusableAudioError` when they cannot be read, and `InputError` when the archive
    or its index cannot even be opened.
    """
    opened = open_archive(archive, index)
    try:
        data: bytes = opened.pread(size, offset)
    except (OSError, ValueError) as error:
        raise UnusableAudioError(f"cannot be read from its archive: {error}") from error
    if len(data) < size:
        raise UnusableAudioError(f"cut off in its archive: {len(data)} of {size} bytes")
    return data


def open_archive(archive: Path, index: Path) -> indexed_gzip.IndexedGzipFile:
    """Return an archive opened with its seek index; a process opens each version of it once."""
    try:
        state = archive.stat()
        return open_state(archive, index, (state.st_size, state.st_mtime_ns))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{archive} cannot be read with its index {index} ({error}): run the command again"
        ) from error


@lru_cache(maxsize=2)
def open_state(archive: Path, index: Path, state: tuple[int, int]) -> indexed_gzip.IndexedGzipFile:
    """Open an archive; `state` (size, time) is only a part of the cache's key."""
    # Each read of the underlying stream starts at a seek point, so a buffer of one byte, which
    # lets every read go straight through, saves a second one.
    return indexed_gzip.IndexedGzipFile(
        archive, index_file=index, drop_handles=False, buffer_size=1
    )
