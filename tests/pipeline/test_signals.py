import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.errors import InterruptedRunError
from aalbert.pipeline.signals import stop_on_signals
from tests.trees import tree

# The pool's processes, which import for a while before they can say what they ignore.
PROCESSES = 2


@pytest.fixture(autouse=True)
def signals_that_nobody_ignores() -> Iterator[None]:
    """In the background SIGINT may be ignored, under nohup SIGHUP is, and children inherit that."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGHUP, signal.SIG_DFL),
        )
    }
    yield
    for number, old in before.items():
        signal.signal(number, old)


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
    assert complaint(process).count("\n") == 0
    assert process.returncode == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
def test_a_stopped_run_is_finished_bit_for_bit(
    recordings: Path, tmp_path: Path, delay_s: float
) -> None:
    assert complaint(start(recordings, tmp_path / "a", 1)) == ""
    process = start(recordings, tmp_path / "b", 2)
    wait_until(lambda: any((tmp_path / "b").rglob("*.tar.*.partial")))
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in complaint(process)
    assert complaint(start(recordings, tmp_path / "b", 2)) == ""
    assert tree(tmp_path / "b") == tree(tmp_path / "a")


def test_earlier_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(InterruptedRunError) as caught, stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.signal_number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
