"""The memory of `prepare` does not grow with its corpus."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

MOST_MIB = 700
NOISE_MIB = 20


# What a parent has held before it started this process counts in `ru_maxrss`, but not here.
PROGRAM = """
import sys
from pathlib import Path
from aalbert.cli import main

code = main(sys.argv[1:])
[line] = [text for text in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in text]
print(line.split()[1])
sys.exit(code)
"""


def peak_mib(arguments: list[str]) -> float:
    """The most memory that the command, which works in one process, has held."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_four_times_the_recordings_take_no_more_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    peaks = []
    for count in (8, 32):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        for number in range(count):
            soundfile.write(folder / f"{number}.wav", rng.uniform(-0.1, 0.1, 480_000), 16_000)
        out = ["--out", str(tmp_path / f"data-{count}"), "--set", "shard_bytes=1000000"]
        peaks.append(peak_mib(["prepare", "folder", str(folder), "--workers", "1", *out]))
    assert max(peaks) < MOST_MIB
    assert peaks[1] - peaks[0] < NOISE_MIB
