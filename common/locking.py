"""File locks: one process at a time in an output folder, or several that share it."""

import errno
import fcntl
import json
import os
import platform
import sys
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, TextIO

from annotated_types import Gt, Lt

from aalbert.common.files import remove_unfinished, sole_file
from aalbert.common.json_files import read_records
from aalbert.errors import IntegrityError, OutputInUseError, StorageError

OPEN_TRIES = 100
# Errors of file systems without locks, such as Lustre by default.
NO_LOCKS_ERRNOS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@dataclass(frozen=True)
class Holder:
    """A process that holds, or held, a lock file."""

    pid: Annotated[int, Gt(0), Lt(2**31)]
    host: str


class NoLocksError(StorageError):
    """The file system has no locks."""


@contextmanager
def hold(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock file at `path`, alone or with others that share it.

    Raises `OutputInUseError` that names the process which holds it. The system releases the
    lock when its holder ends, however it ends, so a stale file blocks nobody.
    """
    with lock(path, shared) as stream:
        if not shared:
            stream.truncate(0)
        # One line, appended in one write: processes that share the file keep each other's lines.
        stream.write(json.dumps(asdict(Holder(os.getpid(), platform.node()))) + "\n")
        stream.flush()
        yield


@contextmanager
def write_beside_others(folder: Path, names: Container[str]) -> Iterator[None]:
    """Write files `names` in `folder`, where other processes may be writing them too.

    What killed processes left of them half written is removed, unless another is writing now.
    The folder itself is locked: that leaves nothing behind. Where its file system cannot do that,
    nothing is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if try_to_flock(descriptor, fcntl.LOCK_EX):
            remove_unfinished(folder, names)
        # Waits while another process removes, which takes no time.
        try_to_flock(descriptor, fcntl.LOCK_SH, wait=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_where_possible(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` alone, then remove it; only warn where there are no locks."""
    with ExitStack() as held:
        try:
            held.enter_context(hold(path))
        except NoLocksError as error:
            print(f"{error}; a second process would not be stopped", file=sys.stderr)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def lock(path: Path, shared: bool) -> TextIO:
    """Return the lock file, open and locked, that is at `path` now.

    A process that finishes removes it with its folder; a lock on a removed file stops nobody.
    """
    while True:
        stream = open_lock(path)
        try:
            flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if is_at(stream, path):
                return stream
        except BlockingIOError as error:
            stream.close()
            raise OutputInUseError(in_use_message(path.parent.parent, holder(path))) from error
        except BaseException:
            stream.close()
            raise
        stream.close()


def open_lock(path: Path) -> TextIO:
    """Open the lock file, even while another process removes its folder.

    Raises `OutputInUseError` when a link or another file is in its place.
    """
    tries_left = OPEN_TRIES
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return open(path, "a+", encoding="utf-8", opener=sole_file)
        except FileNotFoundError as error:
            tries_left -= 1
            if not tries_left:
                raise StorageError(
                    f"{path.parent.parent} cannot be created: nothing can be written there; choose "
                    "another --out"
                ) from error
        except FileExistsError:
            tries_left -= 1
            if not tries_left:
                raise


def is_at(stream: TextIO, path: Path) -> bool:
    """Return whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def flock(stream: IO[str] | IO[bytes], operation: int) -> None:
    """Lock an open file; `NoLocksError` when its file system has none."""
    try:
        fcntl.flock(stream, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS_ERRNOS:
            raise
        raise NoLocksError(
            f"{stream.name} cannot be locked ({error.strerror}): its file system has no locks; "
            "mount it with them, or choose another folder"
        ) from error


def try_to_flock(descriptor: int, operation: int, wait: bool = False) -> bool:
    """Return whether an open folder could be locked."""
    try:
        fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
    except OSError as error:
        # Over NFS, only what is open for writing can be locked, which a folder never is.
        if error.errno not in {errno.EWOULDBLOCK, errno.EBADF, *NO_LOCKS_ERRNOS}:
            raise
        return False
    return True


def in_use_message(place: Path | str, process: str) -> str:
    """Return the message for an output folder or URL that another process is using."""
    return f"{place} is being written by {process}: wait for it, or choose another --out"


def holder(path: Path) -> str:
    """Return the process named in a lock file; of several, the last that may still run.

    The lock is held whatever its file says: a damaged one names nobody.
    """
    try:
        holders = read_records(Holder, path, "wait for its holder")
    except (FileNotFoundError, IntegrityError):
        holders = []
    for each in reversed(holders):
        if each.host != platform.node() or process_exists(each.pid):
            return f"process {each.pid} on {each.host}"
    return "another process"


def process_exists(pid: int) -> bool:
    """Return whether a process exists on this host, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
