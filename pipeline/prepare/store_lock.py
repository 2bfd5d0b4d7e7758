"""A lock in a remote store: an object that names its holder and is refreshed while it works.

The lock `NAME` is the object `NAME.json`; a holder that shares it has `NAME.TOKEN.json`
instead. Each holds pid, host and the time (seconds since 1970, by the holder's clock)
of the last heartbeat. A holder whose process is gone from this host, or whose heartbeat
is old, is dead and its object is removed.

On S3 only one of two processes that request the lock at the same moment gets it, since its
object is created by a conditional request; elsewhere, and when two take over from a dead
holder at the same moment, both may continue. They write the same bytes.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from annotated_types import Gt, Lt

from aalbert.common.json_files import parse_record
from aalbert.common.locking import in_use_message, process_exists
from aalbert.common.store import Store
from aalbert.errors import OutputInUseError, StorageError

HEARTBEAT_S = 30.0
DEAD_AFTER_S = 300.0
# Of taking over a lock; between two of them another process may have had it and have ended.
ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The holder of a lock; the token distinguishes two holders in one process."""

    pid: Annotated[int, Gt(0), Lt(2**31)]
    host: str
    time: float
    token: str

    @classmethod
    def here(cls) -> "Holder":
        """Return a new holder in this process."""
        token = uuid.uuid4().hex
        return cls(pid=os.getpid(), host=platform.node(), time=time.time(), token=token)

    def encode(self) -> bytes:
        """Return the content of the lock's object."""
        return json.dumps(asdict(self)).encode()

    def is_alive(self) -> bool:
        """Return whether it may still be running."""
        if time.time() - self.time > DEAD_AFTER_S:
            return False
        return self.host != platform.node() or process_exists(self.pid)


@contextmanager
def hold_in_store(store: Store, lock: str, shared: bool) -> Iterator[None]:
    """Hold a lock alone, or with others that share it.

    Raises `OutputInUseError` that names the process that has it.
    """
    holder = Holder.here()
    path = f"{lock}.{holder.token}.json" if shared else f"{lock}.json"
    refuse_others(store, lock, path, holder)
    for _ in range(ATTEMPTS):
        # A request whose response was lost is sent again, and then finds its own object.
        if store.create(path, holder.encode()) or is_held_by(store, path, holder):
            break
        refuse_others(store, lock, path, holder)
    else:
        raise OutputInUseError(
            f"{store.name}/{path} cannot be taken, though nobody holds it: delete it, or choose "
            "another --out"
        )
    try:
        # Of two that came at the same moment under different names, at least one sees the other.
        refuse_others(store, lock, path, holder)
        with heartbeat(store, path, holder):
            yield
    finally:
        # It may be gone, or another holder's.
        if is_held_by(store, path, holder):
            store.remove(path)


def refuse_others(store: Store, lock: str, path: str, holder: Holder) -> None:
    """Raise `OutputInUseError` for another live holder, and remove the objects of dead ones."""
    exclusive = f"{lock}.json"
    for other_path in store.files_in(lock.rpartition("/")[0]):
        if not (other_path.startswith(f"{lock}.") and other_path.endswith(".json")):
            continue
        other = read_holder(store, other_path)
        if other is None or other.token == holder.token:
            continue
        if not other.is_alive():
            store.remove(other_path)
        elif exclusive in (path, other_path):
            process = f"process {other.pid} on {other.host}"
            raise OutputInUseError(in_use_message(store.name, process))


def read_holder(store: Store, path: str) -> Holder | None:
    """Return the holder in an object; None when the object is gone."""
    content = store.read(path)
    if content is None:
        return None
    way_out = "it is no lock of 'prepare': delete it, or choose another --out"
    return parse_record(Holder, content, f"{store.name}/{path}", way_out, OutputInUseError)


def is_held_by(store: Store, path: str, holder: Holder) -> bool:
    """Return whether an object exists and names this holder."""
    found = read_holder(store, path)
    return found is not None and found.token == holder.token


@contextmanager
def heartbeat(store: Store, path: str, holder: Holder) -> Iterator[None]:
    """Refresh the object from a thread while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=beat, args=(store, path, holder, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def beat(store: Store, path: str, holder: Holder, ended: threading.Event) -> None:
    """Write the time into the object until `ended`, or until it is no longer this holder's."""
    while not ended.wait(HEARTBEAT_S):
        try:
            if not is_held_by(store, path, holder):
                return
            store.write(path, replace(holder, time=time.time()).encode())
        except StorageError:
            # The next beat tries again; a lasting failure ends the uploads, which report it.
            continue
