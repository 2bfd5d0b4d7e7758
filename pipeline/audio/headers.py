"""Headers of audio files: the announced size, and the position of the samples.

libsndfile reads a file that is cut off without an error, so the announced size is checked.
"""

import re
import struct
from dataclasses import dataclass

HEADER_BYTES = 1024
# Chunks that may precede the samples of a WAV.
PLAIN_CHUNKS = (b"LIST", b"fact", b"PEAK", b"bext", b"JUNK", b"id3 ")
# Encoders that store how many samples they added before and after the recording.
MP3_ENCODERS = (b"LAME", b"Lavf", b"Lavc")
# Writers that stream do not know the size yet and write about the largest number of 32 bits,
# signed or unsigned.
UNKNOWN_SIZES = (range(0x7FFFF000, 0x80000000), range(0xFFFFF000, 0x100000000))


@dataclass(frozen=True)
class StreamInfo:
    """The samples of a FLAC file, by its header; `samples` per channel, 0 when not known."""

    sample_rate: int
    channels: int
    bits: int
    samples: int


@dataclass(frozen=True)
class PcmLayout:
    """The position of the samples of an uncompressed file, in bytes from its beginning."""

    sample_rate: int
    channels: int
    bits: int
    start: int
    stop: int

    @property
    def samples(self) -> int:
        """Samples per channel."""
        return (self.stop - self.start) * 8 // (self.bits * self.channels)


def flac_stream_info(header: bytes) -> StreamInfo | None:
    """Read the STREAMINFO block with which every FLAC file begins (RFC 9639, section 8.2)."""
    if header[:4] != b"fLaC" or len(header) < 26 or header[4] & 0x7F:
        return None
    packed = int.from_bytes(header[18:26], "big")
    return StreamInfo(
        sample_rate=packed >> 44,
        channels=(packed >> 41 & 0b111) + 1,
        bits=(packed >> 36 & 0b11111) + 1,
        samples=packed & (1 << 36) - 1,
    )


def pcm_layout(header: bytes) -> PcmLayout | None:
    """Find the samples of a plain PCM WAV: a `fmt ` chunk and, within the header, `data`.

    Returns None for anything unusual, such as samples that are cut in the middle.
    """
    if header[:4] != b"RIFF" or header[8:16] != b"WAVEfmt " or len(header) < 44:
        return None
    length, coding, channels, rate, _, block, bits = struct.unpack("<IHHIIHH", header[16:36])
    if coding != 1 or length != 16 or not channels or block * 8 != channels * bits:
        return None
    position = 36
    while header[position : position + 4] in PLAIN_CHUNKS and position + 8 <= len(header):
        length = int.from_bytes(header[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    size = int.from_bytes(header[position + 4 : position + 8], "little")
    if header[position : position + 4] != b"data" or size % block or position + 8 > len(header):
        return None
    return PcmLayout(rate, channels, bits, position + 8, position + 8 + size)


def mp3_counts_samples(content: bytes) -> bool:
    """Return whether an MP3 begins with LAME's header, which gives libsndfile its exact length.

    The first frame then holds `Xing` or `Info`, the number of frames (with all optional
    fields, 120 bytes in all), and an encoder's name before the samples to drop at both ends.
    """
    start = 0
    if content[:3] == b"ID3":  # its size has 28 bits, seven in each of four bytes
        highest, high, low, lowest = content[6:10]
        start = 10 + (highest << 21 | high << 14 | low << 7 | lowest)
    frame = content[start : start + 256]
    position = max(frame.find(b"Xing"), frame.find(b"Info"))
    all_fields = frame[position + 7 : position + 8] == b"\x0f"
    return position >= 0 and all_fields and frame[position + 120 :][:4] in MP3_ENCODERS


def announced_bytes(header: bytes) -> int | None:
    """Return the size of a file that its first 1024 bytes announce, if its format does."""
    kind, form = header[:4], header[8:12]
    if kind == b"RIFF" and form == b"WAVE":
        return riff_bytes("<I", header)
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return riff_bytes(">I", header)
    if kind == b"RF64" and header[12:16] == b"ds64":
        return int(struct.unpack("<Q", header[20:28])[0]) + 8
    if header.startswith(b"NIST_1A"):
        return sphere_bytes(header)
    return None


def riff_bytes(layout: str, header: bytes) -> int | None:
    """Return the size of a RIFF or IFF file: the size of its one chunk and that chunk's header."""
    size = int(struct.unpack(layout, header[4:8])[0])
    return None if any(size in sizes for sizes in UNKNOWN_SIZES) else size + 8


def sphere_bytes(header: bytes) -> int | None:
    """Return the size of a NIST SPHERE file of uncompressed samples."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", header, re.MULTILINE))
    if b"shorten" in fields.get(b"sample_coding", b""):
        return None
    counts = [fields.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    size_line = header.split(b"\n", 2)[1]
    if None in counts or not size_line.strip().isdigit():
        return None
    samples, channels, sample_bytes = (int(count) for count in counts if count)
    return int(size_line) + samples * channels * sample_bytes
