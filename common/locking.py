"""File locks: one process at a time in an output folder, or several that share it."""

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, TextIO

from annotated_types import Gt, Lt

from aalbert.common.files import sole_file
from aalbert.common.json_files import read_records
from aalbert.common.notes import warn
from aalbert.common.signals import pause
from aalbert.errors import IntegrityError, OutputInUseError, StorageError

OPEN_TRIES = 100
LOOK_AGAIN_S = 0.05
# Errors of file systems without locks, such as Lustre by default.
NO_LOCKS_ERRNOS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@dataclass(frozen=True)
class Holder:
    """A process that holds, or held, a lock file."""

    pid: Annotated[int, Gt(0), Lt(2**31)]
    host: str


class NoLocksError(StorageError):
    """The file system has no locks."""


class HeldError(OutputInUseError):
    """Another process holds the lock."""


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
def hold_where_possible(path: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path` alone, then remove it; only warn where there are no locks.

    Another process is waited for as long as `patience_s`, then refused as `hold` does.
    """
    end = time.monotonic() + patience_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(hold(path))
            except NoLocksError as error:
                warn(f"{error}; a second process would not be stopped")
            except HeldError:
                if time.monotonic() >= end:
                    raise
                pause(LOOK_AGAIN_S)
                continue
            break
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
            raise HeldError(in_use_message(path.parent.parent, holder(path))) from error
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
