import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aalbert.common.store import Store
from aalbert.errors import OutputInUseError, StorageError
from aalbert.pipeline.prepare import store_lock
from aalbert.pipeline.prepare.output import open_output
from aalbert.pipeline.prepare.store_lock import Holder, hold_in_store

LOCK = ".prepare/lock"
OBJECT = f"{LOCK}.json"
HOLD = """
import pickle, sys, time
with pickle.load(sys.stdin.buffer).hold(".prepare/lock"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store() -> Iterator[Store]:
    yield Store("memory://out")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def finished_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_another_process_is_refused_at_once_and_a_killed_holder_blocks_nobody(
    s3: str, tmp_path: Path
) -> None:
    output = open_output(f"{s3}/out", tmp_path)
    command = [sys.executable, "-c", HOLD]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(pickle.dumps(output))
    other.stdin.close()
    assert other.stdout.readline() == b"held\n"
    assert not output.has("manifest.json")  # which connects
    started = time.monotonic()
    with pytest.raises(OutputInUseError) as caught:
        output.hold(LOCK).__enter__()
    assert time.monotonic() - started < 1
    assert str(caught.value) == (
        f"s3://bucket/out is being written by process {other.pid} on {platform.node()}: "
        "wait for it, or choose another --out"
    )
    assert caught.value.exit_code == 6
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert output.has(OBJECT)
    with output.hold(LOCK):
        assert json.loads(output.fetch(OBJECT).read_text())["pid"] == os.getpid()
    assert output.sizes() == {}


def test_the_lock_is_gone_when_its_block_raises(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), hold_in_store(store, LOCK, shared=False):
        1 / 0  # noqa: B018 - the fault
    assert store.sizes() == {}


@pytest.mark.parametrize(
    "dead",
    [
        replace(Holder.here(), host="elsewhere", time=time.time() - 301),
        replace(Holder.here(), time=time.time() - 301),
        replace(Holder.here(), pid=finished_process()),
    ],
    ids=["silent elsewhere", "silent here", "ended here"],
)
@pytest.mark.parametrize("path", [OBJECT, f"{LOCK}.token.json"])
def test_a_dead_holder_is_replaced(path: str, dead: Holder, store: Store) -> None:
    store.write(path, dead.encode())
    with hold_in_store(store, LOCK, shared=False):
        assert list(store.sizes()) == [OBJECT]
    assert store.sizes() == {}


@pytest.mark.parametrize("path", [OBJECT, f"{LOCK}.token.json"])
def test_a_holder_elsewhere_with_a_fresh_heartbeat_is_respected(path: str, store: Store) -> None:
    other = replace(Holder.here(), pid=7, host="elsewhere", time=time.time() - 290)
    store.write(path, other.encode())
    with pytest.raises(OutputInUseError, match="by process 7 on elsewhere: wait for it"):
        hold_in_store(store, LOCK, shared=False).__enter__()
    assert list(store.sizes()) == [path]


def test_of_many_simultaneous_requests_for_the_lock_on_s3_one_succeeds(s3: str) -> None:
    store, results = Store(f"{s3}/out"), []
    start, finish = threading.Barrier(6), threading.Barrier(6)

    def want() -> None:
        start.wait(20)
        try:
            with hold_in_store(store, LOCK, shared=False):
                results.append("held")
                finish.wait(20)
        except OutputInUseError:
            results.append("refused")
            finish.wait(20)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["held"] + ["refused"] * 5
    assert store.sizes() == {}


def test_a_part_that_starts_at_the_same_moment_as_a_run_without_parts_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create

    def create_after_a_part(self: Store, path: str, content: bytes) -> bool:
        self.write(f"{LOCK}.token.json", replace(Holder.here(), pid=7, host="elsewhere").encode())
        return create(self, path, content)

    monkeypatch.setattr(Store, "create", create_after_a_part)
    with pytest.raises(OutputInUseError, match="by process 7 on elsewhere"):
        hold_in_store(store, LOCK, shared=False).__enter__()
    assert list(store.sizes()) == [f"{LOCK}.token.json"]


def test_a_lost_response_does_not_lock_out_the_process_that_sent_the_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create

    def create_twice(self: Store, path: str, content: bytes) -> bool:
        create(self, path, content)
        return create(self, path, content)

    monkeypatch.setattr(Store, "create", create_twice)
    with hold_in_store(store, LOCK, shared=False):
        assert store.has(OBJECT)


def wait_for_beat(store: Store, path: str, before: float) -> float:
    """Wait until the heartbeat is later than `before`, and return it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        content = store.read(path)
        if content is not None and (beat := float(json.loads(content)["time"])) > before:
            return beat
        time.sleep(0.005)
    raise AssertionError("no heartbeat in 10 s")


def test_the_heartbeat_continues_after_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "HEARTBEAT_S", 0.01)
    write, calls = Store.write, []

    def fail_first(self: Store, path: str, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise StorageError("no connection")
        write(self, path, content)

    monkeypatch.setattr(Store, "write", fail_first)
    with hold_in_store(store, LOCK, shared=True):
        (path,) = store.sizes()
        first = wait_for_beat(store, path, before=0)
        assert wait_for_beat(store, path, before=first) > first
    assert len(calls) >= 2
    assert store.sizes() == {}


def test_a_lock_that_was_taken_over_or_removed_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "HEARTBEAT_S", 0.01)
    other = replace(Holder.here(), pid=7, host="elsewhere").encode()
    with hold_in_store(store, LOCK, shared=False):
        store.write(OBJECT, other)
        time.sleep(0.1)
    assert store.read(OBJECT) == other
    store.remove(OBJECT)
    with hold_in_store(store, LOCK, shared=False):
        store.remove(".prepare")
        time.sleep(0.1)
        assert not store.has(OBJECT)


def test_something_else_under_the_name_of_the_lock_is_named(store: Store) -> None:
    store.write(OBJECT, b"notes")
    with pytest.raises(OutputInUseError) as caught:
        hold_in_store(store, LOCK, shared=False).__enter__()
    assert str(caught.value) == (
        "memory://out/.prepare/lock.json is damaged (Expecting value: line 1 column 1 (char 0)); "
        "it is no lock of 'prepare': delete it, or choose another --out"
    )
