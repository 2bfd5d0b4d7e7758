"""FLAC (RFC 9639)."""

from dataclasses import dataclass

from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

# The beginning of a file: its marker, and the header of the block of 34 bytes that comes first.
BEGINNINGS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
# The sync code of a frame, with blocks of one size or of several.
SYNC_CODES = (b"\xff\xf8", b"\xff\xf9")
# The longest header of a frame, with its checksum.
HEADER_BYTES = 16


@dataclass(frozen=True)
class StreamInfo:
    """The samples of a FLAC file, by its header; `samples` per channel, 0 when not known."""

    sample_rate: int
    channels: int
    bits: int
    samples: int


def stream_info(header: bytes) -> StreamInfo | None:
    """Read the STREAMINFO block with which every FLAC file begins (section 8.2)."""
    if header[:4] != b"fLaC" or len(header) < 26 or header[4] & 0x7F:
        return None
    packed = int.from_bytes(header[18:26], "big")
    return StreamInfo(
        sample_rate=packed >> 44,
        channels=(packed >> 41 & 0b111) + 1,
        bits=(packed >> 36 & 0b11111) + 1,
        samples=packed & (1 << 36) - 1,
    )


def with_samples(content: bytes, samples: int) -> bytes:
    """Return a FLAC whose header says how many samples it holds."""
    packed = int.from_bytes(content[18:26], "big") & ~((1 << 36) - 1) | samples
    return content[:18] + packed.to_bytes(8, "big") + content[26:]


def examine_flac(recording: Recording) -> Contents:
    """Read the number of samples; `UnusableAudioError` when another file follows.

    A file of which the number is not known, since it was written to a pipe, is legal: it is whole
    if its last frame is.
    """
    info = stream_info(recording.header)
    if info is None:
        return NOTHING_KNOWN
    content = recording.content
    if any(content.find(beginning, 4) >= 0 for beginning in BEGINNINGS):
        raise UnusableAudioError("holds several FLAC files set end to end: split them")
    if info.samples:
        return Contents(samples=info.samples)
    if not ends_with_a_frame(content):
        raise UnusableAudioError("cut off: its last frame is not whole")
    return NOTHING_KNOWN


def ends_with_a_frame(content: bytes) -> bool:
    """Return whether the file ends where a frame does, by the checksum of its last one."""
    stop = len(content)
    while stop > 0:
        start = max(content.rfind(code, 0, stop) for code in SYNC_CODES)
        if start < 0:
            return False
        if is_frame_header(content[start : start + HEADER_BYTES]):
            return crc_16(content[start:]) == 0
        stop = start + 1
    return False


def is_frame_header(header: bytes) -> bool:
    """Return whether bytes begin with the header of a frame, by its checksum (section 9.1)."""
    if len(header) < 6:
        return False
    block_code, rate_code = header[2] >> 4, header[2] & 0xF
    number_bytes = max(1, 8 - (header[4] ^ 0xFF).bit_length()) if header[4] >= 0xC0 else 1
    length = 4 + number_bytes
    length += {6: 1, 7: 2}.get(block_code, 0) + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    return len(header) > length and crc_8(header[: length + 1]) == 0


def crc_8(data: bytes) -> int:
    """Return the checksum of a frame's header; 0 where the checksum itself is at the end."""
    return checksum(data, 8, 0x07)


def crc_16(data: bytes) -> int:
    """Return the checksum of a frame; 0 where the checksum itself is at the end."""
    return checksum(data, 16, 0x8005)


def checksum(data: bytes, bits: int, polynomial: int) -> int:
    """Return a cyclic redundancy check that begins with 0."""
    mask, top = (1 << bits) - 1, 1 << bits - 1
    value = 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
