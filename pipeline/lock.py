"""One `prepare` at a time in an output folder, or several that share it."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aalbert.errors import OutputInUseError


@contextmanager
def hold(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock file at `path`, alone or with others that share it.

    `OutputInUseError` names the process that is in the way. The system releases the lock
    when its holder ends, however it ends, so a stale file stops nobody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputInUseError(in_use_message(path.parent.parent, holder(path))) from error
        stream.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node()}, stream)
        stream.flush()
        yield


def in_use_message(place: Path | str, process: str) -> str:
    """Say who is at work in an output folder or URL."""
    return f"{place} is being prepared by {process}: wait for it, or choose another --out"


def holder(path: Path) -> str:
    """Say who wrote the lock file."""
    text = path.read_text("utf-8")
    if not text:
        return "another process"
    record = json.loads(text)
    return f"process {record['pid']} on {record['host']}"
