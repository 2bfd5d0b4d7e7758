"""What a container says of the audio in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PcmLayout:
    """The position of uncompressed samples in a file, in bytes from its beginning."""

    sample_rate: int
    channels: int
    bits: int
    start: int
    stop: int
    little_endian_integers: bool

    @property
    def samples(self) -> int:
        """Samples per channel."""
        return (self.stop - self.start) * 8 // (self.bits * self.channels)


@dataclass(frozen=True)
class Mp3Frames:
    """The frames of an MP3 that hold audio, by their borders in bytes, and what each holds.

    Of all their samples, per channel, the recording has `samples` from the one at `start` on.
    `header` is the frame before them that counts these, empty without one.
    """

    borders: NDArray[np.int64]
    frame_samples: int
    sample_rate: int
    channels: int
    mpeg_1: bool
    layer: int
    header: bytes
    start: int
    samples: int


@dataclass(frozen=True)
class Contents:
    """What a container says of the audio in it, once it was found to be complete.

    `samples` is the number per channel that it counts, None where only a decoder knows.
    `pcm` is the position of plain samples, `mp3` those of frames. `streams` are the bytes
    `(start, stop)` of several streams one after another, each of which is decoded alone.
    """

    samples: int | None = None
    pcm: PcmLayout | None = None
    mp3: Mp3Frames | None = None
    streams: tuple[tuple[int, int], ...] = ()


NOTHING_KNOWN = Contents()
