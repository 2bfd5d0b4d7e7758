"""A process that reads the files whose paths it is told, within a limit of memory.

For each it prints a line of JSON: the reason why it is refused, or what its audio is; the wave, at
the sample rate of its source, lies beside the file.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.audio.recording import UnusableAudioError

RATE = 16_000


def answer(path: Path) -> dict[str, Any]:
    """What reading a file gives."""
    try:
        audio = read_audio(path, RATE)
        if audio.source_sample_rate != RATE:
            audio = read_audio(path, audio.source_sample_rate)
    except UnusableAudioError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"failed": f"raises {error!r}"}
    audio.wave.tofile(path.with_suffix(".wave"))
    return {"rate": audio.source_sample_rate, "channels": audio.source_channels}


def peak_mb() -> float:
    """The most memory that this process has held; `getrusage` begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM")]
    return int(peak.split()[1]) * 1_024 / 1_000_000


def main(limit_mb: int) -> None:
    """Answer until no more is asked."""
    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held_bytes + limit_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        found = answer(Path(line.rstrip("\n")))
        print(json.dumps(found | {"peak_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
