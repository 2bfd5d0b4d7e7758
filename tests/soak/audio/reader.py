"""Reads files in another process, so that what ends that process is seen."""

import json
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHILD = Path(__file__).with_name("child.py")
MEMORY_MB = 700
SECONDS = 30


@dataclass(frozen=True)
class Decoded:
    """A wave `(samples,)`, the mean of the channels, at the sample rate of its source."""

    wave: NDArray[np.float32]
    rate: int
    channels: int


@dataclass(frozen=True)
class Refused:
    """The reason why a file is not taken."""

    reason: str


class Failed(Exception):
    """Reading a file crashed, hung, or took too much memory."""


@dataclass
class Reader:
    """A process of `child.py`, started again when a file ended it."""

    process: subprocess.Popen[str] | None = None
    peak_mb: float = 0.0

    def read(self, path: Path) -> Decoded | Refused:
        """What `read_audio` gives; `Failed` when it gives nothing."""
        if self.process is None:
            command = [sys.executable, str(CHILD), str(MEMORY_MB)]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # mpg123 writes there about what it mends.
                stderr=subprocess.DEVNULL,
                text=True,
            )
        process = self.process
        assert process.stdin and process.stdout
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], SECONDS)[0]:
            self.close()
            raise Failed(f"hangs for {SECONDS} s")
        line = process.stdout.readline()
        if not line:
            status = process.wait()
            self.process = None
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise Failed(f"ends the process: {name}")
        found = json.loads(line)
        self.peak_mb = max(self.peak_mb, found["peak_mb"])
        if found["peak_mb"] > MEMORY_MB:
            self.close()
            raise Failed(f"takes {found['peak_mb']:.0f} MB")
        if "failed" in found:
            raise Failed(found["failed"])
        if "refused" in found:
            return Refused(found["refused"])
        wave = np.fromfile(path.with_suffix(".wave"), np.float32)
        return Decoded(wave, found["rate"], found["channels"])

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
