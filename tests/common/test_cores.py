import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aalbert.common import cores
from aalbert.common.cores import available_cores, busy_cores, core_quota, core_ticks, idle_threads

STAT = """\
cpu  100 0 100 800 0 0 0 0 0 0
cpu0 60 0 40 400 10 0 0 0 30 0
cpu12 40 0 60 390 0 0 5 5 0 0
intr 5
"""


def test_ticks_are_counted_by_core_and_those_of_guests_once() -> None:
    assert core_ticks(STAT) == {0: (410, 510), 12: (390, 500)}


@pytest.mark.parametrize(
    ("available", "busy", "threads"),
    [(2, 0.0, 2), (2, 0.4, 2), (2, 0.6, 1), (2, 2.0, 1), (8, 3.0, 5), (1, 0.9, 1), (4, 9.0, 1)],
)
def test_threads_are_for_the_cores_that_are_idle(available: int, busy: float, threads: int) -> None:
    assert idle_threads(available, busy) == threads


@pytest.mark.parametrize(
    ("texts", "quota"),
    [
        (["max 100000\n"], None),
        (["150000 100000\n"], 1.5),
        (["-1\n", "100000\n"], None),
        (["200000\n", "100000\n"], 2.0),
        ([], None),
    ],
)
def test_the_quota_of_a_container_counts(
    texts: list[str], quota: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tuple(str(tmp_path / str(number)) for number in range(len(texts)))
    for path, text in zip(files, texts, strict=True):
        Path(path).write_text(text)
    monkeypatch.setattr(cores, "QUOTA_FILES", (("nowhere",), files) if files else (("nowhere",),))
    assert core_quota() == quota
    monkeypatch.setattr(cores, "own_cores", lambda: set(range(4)))
    assert available_cores() == (4 if quota is None else 2)


def test_without_a_table_of_the_system_nothing_is_known_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "PROC_STAT", tmp_path / "nowhere")
    assert busy_cores(0.0) == 0.0


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="the system has no /proc/stat")
def test_a_busy_neighbour_on_the_own_core_is_seen() -> None:
    own = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, own[:1])
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert 0.7 <= busy_cores(0.5) <= 1.0
        assert idle_threads(available_cores(), busy_cores()) == 1
    finally:
        loop.kill()
        loop.wait()
        os.sched_setaffinity(0, own)
