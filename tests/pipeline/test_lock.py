import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aalbert.errors import OutputInUseError
from aalbert.pipeline.librispeech import read_librispeech
from aalbert.pipeline.lock import hold
from aalbert.pipeline.plan import PrepareConfig
from aalbert.pipeline.pool import LocalEngine
from aalbert.pipeline.prepare import PrepareLimits, prepare

HOLD = """
import sys, time
from pathlib import Path
from aalbert.pipeline.lock import hold
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
        f"{out} is being prepared by process {other.pid} on {platform.node()}: wait for it, "
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
