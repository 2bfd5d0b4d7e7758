"""Files that are finished or absent: written under a temporary name, synced, renamed.

A folder may be shared, and somebody else may put a link where a file of ours will be. So temporary
names cannot be guessed, and a file with a known name is never opened through a link.
"""

import errno
import json
import os
import re
import stat
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from aalbert.errors import OutputInUseError

TEMPORARY_SUFFIX = ".partial"
TOKEN_BYTES = 8
TEMPORARY_END = re.compile(rf"(\.[0-9a-f]{{{2 * TOKEN_BYTES}}})?{re.escape(TEMPORARY_SUFFIX)}")
# The longest name that file systems take.
LONGEST_NAME_BYTES = 255
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

    The bytes go to a sibling `NAME.TOKEN.partial`, which is synced and renamed when the
    block ends, and removed when the block raises. A link at `path` is replaced, not followed.
    """
    with replacing(path) as temporary, open(temporary, "wb", opener=new_file) as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` for a file that replaces it when the block ends.

    It is removed when the block raises. Errors of the system name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    with naming(path, temporary):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_name(name: str, mark: str = "") -> str:
    """Return a name for a file until it is finished, which nobody can guess.

    `mark` is put before its end. A long name is cut, so that this one is not too long.
    """
    end = f".{os.urandom(TOKEN_BYTES).hex()}{mark}{TEMPORARY_SUFFIX}"
    encoded = os.fsencode(name)
    # A name that is itself too long must be refused before the work, not by the last step.
    kept = encoded[: max(LONGEST_NAME_BYTES, len(encoded)) - len(end)]
    return kept.decode("utf-8", "ignore") + end


def remove_unfinished(folder: Path, names: Container[str] | None = None) -> None:
    """Remove what killed processes left below a folder of files that nobody else writes now.

    `names` are the files, by their final paths relative to the folder; None means all.
    """
    for path in folder.rglob(f"*{TEMPORARY_SUFFIX}"):
        if names is None or final_name(path.relative_to(folder).as_posix()) in names:
            path.unlink(missing_ok=True)


def final_name(temporary: str) -> str:
    """Return the name of a finished file from that of the unfinished one, unless that was cut."""
    return TEMPORARY_END.sub("", temporary)


def new_file(path: str, flags: int) -> int:
    """Make a file, as `open(path, "wb", opener=new_file)`, with what the user's umask permits.

    Raises `FileExistsError` when anything is there, a link too.
    """
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def require_no_link(path: Path | str) -> None:
    """Raise `OutputInUseError` for a link in place of a file or folder of ours: it may lead away.

    The folder that a user names may be one.
    """
    if os.path.islink(path):
        raise OutputInUseError(
            f"{path} is a link, and no file is written through one: delete it, and run the "
            "command again"
        )


def plain_file(path: str, flags: int) -> int:
    """Open a file of ours with a known name, as `open(path, mode, opener=plain_file)`.

    Raises `OutputInUseError` for a link, which might lead to any file, and for what is no file.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            require_no_link(path)
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputInUseError(f"{path} is no plain file: delete it, and run the command again")
    return descriptor


def sole_file(path: str, flags: int) -> int:
    """Open a file as `plain_file` does, to shorten it too: it must have no second name.

    Raises `OutputInUseError` also for a hard link, which may be any file of the same disk.
    """
    descriptor = plain_file(path, flags)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OutputInUseError(
            f"{path} is a file that has another name too (a hard link): delete it, and run the "
            "command again"
        )
    return descriptor


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Give system errors the file's name: those without one, and those with a temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
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


def canonical(document: Any) -> bytes:
    """Return the one spelling of a JSON document that hashes are taken of."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def write_json(path: Path, document: Any) -> None:
    """Write `document` as indented JSON, finished or absent."""
    write_text(path, json_text(document))


def file_digest(path: Path) -> str:
    """Return the XXH3 hash (128 bit) of a whole file as 32 hexadecimal digits."""
    # It loads OpenSSL, which takes as long as all of this file.
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()
