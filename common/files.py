"""Files that are finished or absent: written under a temporary name, synced, renamed."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from aalbert.common.json_files import read_record
from aalbert.errors import OutputInUseError

TEMPORARY_SUFFIX = ".partial"
# What macOS, NFS and Windows put beside a user's files on their own.
SIDE_FILE_PREFIXES = ("._", ".nfs")
SIDE_FILE_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})


def is_side_file(path: str) -> bool:
    """Return whether a system, not a user, put a file of this name there: it is no content."""
    name = path.rpartition("/")[2]
    return name.startswith(SIDE_FILE_PREFIXES) or name.lower() in SIDE_FILE_NAMES


def holds_something(folder: Path) -> bool:
    """Return whether there is a folder with more in it than side files."""
    return folder.exists() and not all(is_side_file(each.name) for each in folder.iterdir())


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it appears complete or not at all.

    The bytes go to a sibling `NAME.partial`, which is synced and renamed when the
    block ends, and removed when the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with naming(path), temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to system errors without one, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def cache_folder() -> Path:
    """Return the folder for files that can be recreated: `aalbert` in the user's cache folder."""
    library = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or library) / "aalbert"


def require_empty(folder: Path) -> None:
    """Raise `OutputInUseError` when a folder to be written is a file or holds something."""
    if folder.is_file():
        raise OutputInUseError(f"{folder} is a file: choose another --out")
    if holds_something(folder):
        raise OutputInUseError(f"{folder} is not empty: choose another --out")


def claim(out: Path, work_folder: str, plan: str, unfinished: str) -> None:
    """Start work in an empty folder, or continue that of the same plan.

    The plan is kept in `work_folder` inside it. Raises `OutputInUseError` when the folder holds
    other things, or `unfinished` work of another plan, as the error calls it.
    """
    path = out / work_folder / "plan.json"
    if not path.is_file():
        require_empty(out)
        write_json(path, plan)
    elif read_record(str, path, f"delete {out / work_folder} and start again") != plan:
        raise OutputInUseError(
            f"{out} holds an unfinished {unfinished}: choose another --out, or delete it first"
        )


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable (POSIX keeps them in the folder's own data)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, finished or absent."""
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))


def json_text(document: Any) -> str:
    """Return `document` as indented JSON, always formatted in the same way."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Write `document` as indented JSON, finished or absent."""
    write_text(path, json_text(document))


def file_digest(path: Path) -> str:
    """Return the XXH3 hash (128 bit) of a whole file as 32 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()
