"""What a container says of the audio in it."""

from dataclasses import dataclass


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
class Contents:
    """What a container says of the audio in it, once it was found to be complete.

    `samples` is the number per channel that it counts, None where only a decoder knows.
    `pcm` is the position of plain samples. `streams` are the bytes `(start, stop)` of several
    streams one after another, each of which is decoded alone. Before `audio_start` is no audio.
    """

    samples: int | None = None
    pcm: PcmLayout | None = None
    streams: tuple[tuple[int, int], ...] = ()
    audio_start: int = 0


NOTHING_KNOWN = Contents()
