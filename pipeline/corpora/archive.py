"""Random access to the members of a `.tar.gz`; no member is ever written to disk."""

import fcntl
import gzip
import json
import os
import tarfile
import zlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import indexed_gzip
import xxhash

from aalbert.common.files import atomic_write, file_digest, write_text
from aalbert.common.locking import flock
from aalbert.common.progress import progress_bar
from aalbert.errors import InputError
from aalbert.pipeline.audio.decode import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.tar_stream import ForwardStream, Listing, Member, scan

# A read unpacks half the distance of two seek points on average, and each point takes 32 KiB
# of the reader's memory: 1 MiB apart, but at most about this many (128 MiB) in a large archive.
MOST_SEEK_POINTS = 4096
SMALLEST_SPACING = 2**20
# What damaged or malicious bytes make of `gzip`, `indexed_gzip` and `tarfile`.
DAMAGE_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    tarfile.TarError,
    ValueError,
    OverflowError,
    RecursionError,
)


def index_path(cache: Path, archive: Path) -> Path:
    """Return where the seek index of an archive lies in the folder `cache`."""
    place = xxhash.xxh3_64_hexdigest(os.fsencode(archive.resolve().parent))
    return cache / f"{archive.name}-{place}.index"


def list_members(archive: Path, index: Path, kept: tuple[str, ...] = ()) -> Listing:
    """List the members of an archive and write its seek index to `index`.

    Members whose names end in one of `kept` are small texts to return with the list. The
    archive is read once, from end to end with its checksum; an archive of the same size and
    time is not read again. Of several processes that ask, one reads and the others wait.
    Members that are unsafe or unreadable are skipped. Raises `InputError` when the archive
    is damaged or cut off.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    notes = index.with_suffix(".json")
    with index.with_suffix(".lock").open("ab") as lock:
        flock(lock, fcntl.LOCK_EX)
        state = {"size": archive.stat().st_size, "mtime_ns": archive.stat().st_mtime_ns}
        asked = {"archive": state, "kept": list(kept)}
        if (known := read_listing(notes, index, asked)) is not None:
            return known
        listing = read_archive(archive, index, kept)
        document = {**asked, "index_xxh3": file_digest(index), **asdict(listing)}
        write_text(notes, json.dumps(document))
    return listing


def read_listing(notes: Path, index: Path, asked: dict[str, Any]) -> Listing | None:
    """Return the listing made before, if it is of this archive and its index is whole."""
    if not (notes.is_file() and index.is_file()):
        return None
    # Another version may have written it, or somebody who shares the cache.
    try:
        document = json.loads(notes.read_text("utf-8"))
        if {key: document[key] for key in asked} != asked:
            return None
        if document["index_xxh3"] != file_digest(index):
            return None
        return Listing(
            members=tuple(Member(**member) for member in document["members"]),
            skipped=tuple(Skip(**skip) for skip in document["skipped"]),
            texts=document["texts"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_archive(archive: Path, index: Path, kept: tuple[str, ...]) -> Listing:
    """Read an archive from end to end, list it, and write its seek index."""
    size = archive.stat().st_size
    spacing = max(SMALLEST_SPACING, size // MOST_SEEK_POINTS)
    with (
        archive.open("rb") as packed,
        indexed_gzip.IndexedGzipFile(
            archive, spacing=spacing, drop_handles=False, buffer_size=1
        ) as indexed,
        progress_bar(f"index {archive.name}", total=size // 2**20, unit="MiB") as bar,
    ):

        def advance(position: int) -> None:
            indexed.seek(position)
            bar.update(packed.tell() // 2**20 - bar.n)

        try:
            listing = scan(ForwardStream(gzip.GzipFile(fileobj=packed), advance), kept)
        except DAMAGE_ERRORS as error:
            raise InputError(
                f"{archive} is damaged or not whole ({error or type(error).__name__}): "
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
    """Return an archive opened with its seek index; a process opens each state of it once."""
    try:
        state = archive.stat()
        return open_state(archive, index, (state.st_size, state.st_mtime_ns))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{archive} cannot be read with its index {index} ({error}): run the command again"
        ) from error


@lru_cache(maxsize=2)
def open_state(archive: Path, index: Path, state: tuple[int, int]) -> indexed_gzip.IndexedGzipFile:
    """Open an archive as it is in this state (size, time), which only tells it from others."""
    # Each read of the underlying stream starts at a seek point, so a buffer of one byte, which
    # lets every read go straight through, saves a second one.
    return indexed_gzip.IndexedGzipFile(
        archive, index_file=index, drop_handles=False, buffer_size=1
    )
