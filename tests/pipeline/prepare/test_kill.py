"""`kill -9` of a `prepare` at random moments, and the result of the next run."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

# Prepares, and kills itself some milliseconds after the n-th operation on a file of the output.
VICTIM = """
import os, pickle, signal, sys, threading
from pathlib import Path
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

request, out, kill_at, delay = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
corpus, config = pickle.loads(Path(request).read_bytes())
operations = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    global operations
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and arguments:
        if str(arguments[0]).startswith((out, ".prepare")):
            operations += 1
            if operations == kill_at:
                threading.Timer(delay, die).start() if delay else die()

sys.addaudithook(watch)
prepare(corpus, Path(out), config, PrepareLimits(engine=LocalEngine(workers=1)))
print(operations)
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def request_file(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("kill") / "request.pickle"
    path.write_bytes(pickle.dumps((read_librispeech(librispeech_folder), small_config)))
    return path


def run_victim(
    request_file: Path, out: Path, kill_at: int, delay: float
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", VICTIM, str(request_file), str(out), str(kill_at), str(delay)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def operations(request_file: Path, prepared: Path) -> int:
    """Return the number of file operations of an undisturbed run."""
    out = request_file.with_name("undisturbed")
    finished = run_victim(request_file, out, kill_at=0, delay=0)
    assert finished.returncode == 0, finished.stderr
    assert tree(out) == tree(prepared)
    return int(finished.stdout)


def check_recovery(
    request_file: Path, prepared: Path, out: Path, kill_at: int, delay: float
) -> None:
    """Bit-identical, no leftover files, at most one shard of the killed run computed again."""
    killed = run_victim(request_file, out, kill_at, delay)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    shards = {path: path.stat().st_ino for path in out.glob("*/*.tar")}
    corpus, config = pickle.loads(request_file.read_bytes())
    prepare(corpus, out, config, PrepareLimits(engine=LocalEngine(workers=1)))
    assert sum(path.stat().st_ino != before for path, before in shards.items()) <= 1
    assert tree(out) == tree(prepared)
    assert not (out / ".prepare").exists()


@pytest.mark.parametrize("point", range(2))
def test_a_killed_run_is_finished_bit_for_bit(
    request_file: Path, prepared: Path, operations: int, tmp_path: Path, point: int
) -> None:
    share = np.random.default_rng(point).uniform(0.1, 0.9)
    check_recovery(
        request_file, prepared, tmp_path / "b", kill_at=round(share * operations), delay=0.003
    )


@pytest.mark.slow
@pytest.mark.parametrize("point", range(20))
def test_a_run_killed_at_any_of_many_points_is_finished_bit_for_bit(
    request_file: Path, prepared: Path, operations: int, tmp_path: Path, point: int
) -> None:
    rng = np.random.default_rng(point)
    kill_at = 1 + round((operations - 1) * (point + rng.uniform()) / 20)
    delay = rng.choice([0, rng.uniform(0, 0.01)])
    check_recovery(request_file, prepared, tmp_path / "b", min(kill_at, operations), delay)
