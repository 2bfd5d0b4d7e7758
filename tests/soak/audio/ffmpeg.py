"""ffmpeg, as the decoder to compare with: it has no line in common with libsndfile."""

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from tests.soak.audio.reader import Decoded

AU_HEADER_BYTES = 24


def by_ffmpeg(path: Path) -> Decoded | None:
    """The wave that ffmpeg decodes; None for nothing."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-nostdin", "-threads", "1"]
    command += ["-i", str(path), "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
    audio = subprocess.run(command, stdout=subprocess.PIPE, timeout=60).stdout
    if len(audio) < AU_HEADER_BYTES:
        return None
    start, _, _, rate, channels = struct.unpack(">5I", audio[4:AU_HEADER_BYTES])
    numbers = np.frombuffer(audio[start:], ">f4")
    samples = numbers[: len(numbers) // channels * channels].reshape(-1, channels)
    return Decoded(samples.mean(axis=1, dtype=np.float32), rate, channels)
