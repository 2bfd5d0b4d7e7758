import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aalbert.common.locking import hold, hold_where_possible
from aalbert.errors import OutputInUseError, StorageError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.output import LocalOutput
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

HOLD = """
import sys, time
from pathlib import Path
from aalbert.common.locking import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_prepare_is_refused_at_once_and_a_dead_holder_stops_nobody(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    lock = out / ".prepare" / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    corpus, limits = (
        read_librispeech(librispeech_folder),
        PrepareLimits(engine=LocalEngine(workers=1)),
    )
    started = time.monotonic()
    with pytest.raises(OutputInUseError) as caught:
        prepare(corpus, out, small_config, limits)
    assert time.monotonic() - started < 1
    assert str(caught.value) == (
        f"{out} is being written by process {other.pid} on {platform.node()}: wait for it, "
        "or choose another --out"
    )
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert prepare(corpus, out, small_config, limits).utterances > 0
    assert not lock.exists()


def test_the_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".prepare" / "lock"
    with hold(lock):
        assert f'"pid": {os.getpid()}' in lock.read_text()
    with hold(lock):
        pass


def test_a_holder_of_a_shared_lock_that_still_runs_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".prepare" / "lock"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with hold(lock, shared=True):
        with lock.open("a") as stream:
            stream.write(json.dumps({"pid": ended.pid, "host": platform.node()}) + "\n")
        with pytest.raises(OutputInUseError, match=f"by process {os.getpid()} on"), hold(lock):
            pass


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "out" / ".prepare" / "lock"
    flock, calls = fcntl.flock, []

    def flock_after_a_removal(stream: object, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            lock.unlink()
        flock(stream, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock_after_a_removal)
    with hold(lock):
        monkeypatch.undo()
        with pytest.raises(OutputInUseError), hold(lock):
            pass


def test_a_lock_can_be_taken_while_its_folder_is_removed(tmp_path: Path) -> None:
    output, inside, faults = LocalOutput(folder=tmp_path), [], []

    def come_and_go() -> None:
        for _ in range(150):
            try:
                output.sizes()
                with output.hold(".prepare/lock"):
                    inside.append(threading.get_ident())
                    if len(inside) > 1:
                        faults.append("two hold the lock")
                    inside.remove(threading.get_ident())
                    output.remove(".prepare")
            except OutputInUseError:
                continue
            except OSError as error:
                faults.append(repr(error))

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stream: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = tmp_path / "out" / ".prepare" / "lock"
    with pytest.raises(StorageError) as caught, hold(lock):
        pass
    assert str(caught.value) == (
        f"{lock} cannot be locked (Function not implemented): its file system has no locks; "
        "mount it with them, or choose another folder"
    )


def test_without_locks_a_run_continues_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(stream: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    lock = tmp_path / "run" / "checkpoints" / "lock"
    with hold_where_possible(lock), pytest.raises(OutputInUseError), hold_where_possible(lock):
        pass
    assert not lock.exists()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold_where_possible(lock), hold_where_possible(lock):
        pass
    assert capsys.readouterr().err.count("; a second process would not be stopped") == 2


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_folder_that_cannot_be_created_is_named() -> None:
    with pytest.raises(StorageError) as caught, hold(Path("/proc/data/.prepare/lock")):
        pass
    assert str(caught.value) == (
        "/proc/data cannot be created: nothing can be written there; choose another --out"
    )


def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "work" / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("60", "0.5"), str(lock)], stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(OutputInUseError), hold_where_possible(lock):
        pass
    with hold_where_possible(lock, patience_s=60.0):
        pass
    assert other.wait() == 0
    other.stdout.close()
    assert not lock.exists()
