import ctypes
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile

from aalbert.cli import main
from aalbert.common.files import file_digest
from aalbert.common.signals import (
    STOP_SIGNALS,
    handle_stop_signals,
    pause,
    stop_if_asked,
    stoppable,
)
from aalbert.common.store import Store
from aalbert.errors import InterruptedRunError
from aalbert.pipeline.corpora import archive
from aalbert.pipeline.corpora import librispeech_download as download
from aalbert.pipeline.prepare import prepare as prepare_module
from aalbert.pipeline.prepare import shard_task
from aalbert.shards.verification import verify as verification

# The pool's processes, which import for a while before they can say what they ignore.
PROCESSES = 2


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals") / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        soundfile.write(folder / f"{number}.wav", rng.uniform(-0.1, 0.1, 960_000), 16_000)
    return folder


def start(recordings: Path, out: Path, workers: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "aalbert", "prepare", "folder", str(recordings)]
    command += ["--out", str(out), "--workers", str(workers), "--speaker-pattern", "(?P<speaker>.)"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def complaint(process: "subprocess.Popen[str]") -> str:
    """Return the output of the command, without the progress bar."""
    lines = process.communicate(timeout=60)[1].replace("\r", "\n").splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("prepare: "))


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 2),
        (signal.SIGHUP, 2),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_ends_the_run_without_unfinished_files(
    recordings: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    out = tmp_path / "data"
    process = start(recordings, out, workers)
    wait_until(lambda: any(out.rglob("*.tar.*.partial")))
    os.killpg(process.pid, number)
    assert complaint(process) == (
        f"stopping after what is under way ({number.name}); Ctrl-C ends it at once\n"
        f"aalbert: stopped by {number.name}: run the same command again, finished work is kept"
    )
    assert process.returncode == 128 + number
    assert not list(out.rglob("*.partial"))
    assert not (out / "manifest.json").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_workers_that_just_start_leave_a_signal_to_their_parent(
    recordings: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(recordings, tmp_path / "data", PROCESSES)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # One more process tracks shared memory.
    wait_until(lambda: len(children.read_text().split()) == PROCESSES + 1)
    os.killpg(process.pid, number)
    assert complaint(process).count("\n") == 1
    assert process.returncode == 128 + number


def call_from_c(action: Callable[[], object]) -> None:
    ctypes.CFUNCTYPE(None)(action)()


def call_as_an_object_ends(action: Callable[[], object]) -> None:
    class Ending:
        def __del__(self) -> None:
            action()

    Ending()


def call_by_a_weak_reference(action: Callable[[], object]) -> None:
    class Referent:
        pass

    referent = Referent()
    reference = weakref.ref(referent, lambda _: action())
    del referent
    assert reference() is None


# Where Python prints an exception and goes on.
FOREIGN_CALLS = [call_from_c, call_as_an_object_ends, call_by_a_weak_reference]


def send(number: int) -> None:
    """Send a signal to this process, and stay until its handler has run."""
    os.kill(os.getpid(), number)
    for _ in range(100):
        pass


def never(number: int) -> None:
    pytest.fail(f"{number} ended the process")


def work_for_ever(meanwhile: Callable[[], object]) -> None:
    meanwhile()
    for _ in range(10**6):
        stop_if_asked()
    pytest.fail("the signal was lost")


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("call", FOREIGN_CALLS)
def test_a_signal_in_a_callback_that_swallows_exceptions_ends_the_work(
    call: Callable[[Callable[[], object]], None], number: signal.Signals
) -> None:
    with (
        handle_stop_signals(never),
        pytest.raises(InterruptedRunError, match=f"^stopped by {number.name}: run the") as caught,
        stoppable(),
    ):
        work_for_ever(lambda: call(lambda: send(number)))
    assert caught.value.signal_number == number


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_in_a_callback_while_a_file_is_read_ends_prepare(
    workers: int,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In the process that handles signals: with several, where it looks at what they did.
    place = (shard_task, "read_audio") if workers == 1 else (prepare_module, "show_progress")
    original, calls = getattr(*place), []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            call_from_c(lambda: send(signal.SIGTERM))
        return original(*arguments, **options)

    monkeypatch.setattr(*place, interrupted)
    out = tmp_path / "data"
    command = ["prepare", "folder", str(recordings), "--out", str(out)]
    assert main([*command, "--workers", str(workers), "--set", "shard_bytes=4000000"]) == 143
    assert len(calls) == 2
    assert capsys.readouterr().err.endswith(
        "aalbert: stopped by SIGTERM: run the same command again, finished work is kept\n"
    )
    assert not list(out.rglob("*.partial"))
    assert not (out / "manifest.json").exists()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An archive of one file of noise."""
    path = tmp_path / "packed.tar.gz"
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(100_000))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "noise", "noise")
    return path


def test_indexing_an_archive_ends_without_an_index(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "STEP_BYTES", 1)
    monkeypatch.setattr(archive, "refusal", lambda _: call_from_c(lambda: send(signal.SIGTERM)))
    with handle_stop_signals(never), pytest.raises(InterruptedRunError):
        archive.list_members(packed, tmp_path / "cache" / "index")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["index.lock"]


def test_a_download_ends_with_the_bytes_that_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Response(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                call_from_c(lambda: send(signal.SIGTERM))
            return super().read(size)

    def fetch_rest(url: str, stream: BinaryIO, partial: Path) -> None:
        download.copy(Response(bytes(200)), stream, 200, "name")  # type: ignore[arg-type]

    monkeypatch.setattr(download, "CHUNK_BYTES", 100)
    monkeypatch.setattr(download, "fetch_rest", fetch_rest)
    with handle_stop_signals(never), pytest.raises(InterruptedRunError):
        download.download_subset("dev-clean", tmp_path)
    assert (tmp_path / "dev-clean.tar.gz.partial").read_bytes() == bytes(100)


def test_a_wait_before_a_retry_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        call_from_c(lambda: send(signal.SIGTERM))
        raise OSError("the store is away")

    monkeypatch.setattr("aalbert.common.store.RETRY_WAITS_S", (60.0,))
    with handle_stop_signals(never), pytest.raises(InterruptedRunError), stoppable():
        Store("memory://store").call(fail, "path")


def test_verification_ends(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def digest(path: Path) -> str:
        call_from_c(lambda: send(signal.SIGHUP))
        return file_digest(path)

    monkeypatch.setattr(verification, "file_digest", digest)
    assert main(["shards", "verify", str(prepared)]) == 129
    assert "aalbert: stopped by SIGHUP" in capsys.readouterr().err


def test_a_signal_that_comes_too_late_for_the_work_is_not_lost() -> None:
    with (
        handle_stop_signals(never),
        pytest.raises(InterruptedRunError, match="^stopped by SIGINT"),
        stoppable(),
    ):
        send(signal.SIGINT)


def test_what_a_signal_interrupts_is_unwound_in_the_main_thread_alone() -> None:
    done = []

    def work() -> None:
        pause(60)
        done.append("thread")

    with (
        handle_stop_signals(never),
        pytest.raises(InterruptedRunError),
        stoppable(),
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(work)
        try:
            work_for_ever(lambda: send(signal.SIGTERM))
        finally:
            done.append("main")
    assert sorted(done) == ["main", "thread"]


def test_a_pause_ends_when_a_signal_comes() -> None:
    began = time.monotonic()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    with handle_stop_signals(never), pytest.raises(InterruptedRunError), stoppable():
        timer.start()
        pause(60)
    assert time.monotonic() - began < 10


def test_outside_of_stoppable_work_a_signal_ends_the_process() -> None:
    ended: list[int] = []
    with handle_stop_signals(ended.append):
        with stoppable():
            pass
        call_from_c(lambda: send(signal.SIGHUP))
    assert ended == [signal.SIGHUP]


def test_after_a_first_signal_a_second_one_ends_even_what_is_busy_in_c() -> None:
    program = (
        "import hashlib, os, signal\n"
        "from aalbert.common.signals import blocked_signals, handle_stop_signals, stoppable\n"
        "with handle_stop_signals(lambda number: None), stoppable():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    with blocked_signals(): pass\n"
        "    print('noted', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert running.stdout is not None and running.stdout.readline() == b"noted\n"
    running.stdout.close()
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == -signal.SIGTERM


def test_earlier_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with (
            handle_stop_signals(never),
            pytest.raises(InterruptedRunError) as caught,
            stoppable(),
        ):
            send(signal.SIGHUP)
            stop_if_asked()
            send(signal.SIGTERM)
        assert caught.value.signal_number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_stops_when_its_parent_asks() -> None:
    script = (
        "import multiprocessing, os, signal\n"
        "from aalbert.common.signals import *\n"
        "asked = multiprocessing.RawValue('b', 0)\n"
        "leave_signals_to_the_parent(asked)\n"
        "[os.kill(os.getpid(), number) for number in SAVE_SIGNALS]\n"
        "stop_if_asked()\n"
        "asked.value = 1\n"
        "try:\n"
        "    pause(60)\n"
        "except StopRequest:\n"
        "    print('stopped')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "stopped\n"), ended.stderr


def test_of_two_signals_at_one_moment_the_second_ends_the_process() -> None:
    """Both are waiting when Python handles the first."""
    program = (
        "import os, signal; from aalbert.common.signals import handle_stop_signals, stoppable\n"
        "numbers = (signal.SIGHUP, signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "with handle_stop_signals(lambda number: None), stoppable():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "    for number in numbers: os.kill(os.getpid(), number)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)\n"
        "    print('goes on')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    said = b"stopping after what is under way (SIGHUP); Ctrl-C ends it at once\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", said)
