"""FLAC (RFC 9639)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from aalbert.pipeline.audio.containers.chunks import is_end
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

# The beginning of a file: its marker, and the header of the block of 34 bytes that comes first.
MARKER = b"fLaC"
BEGINNINGS = (MARKER + b"\x00\x00\x00\x22", MARKER + b"\x80\x00\x00\x22")
# The sync code of a frame, with blocks of one size or of several.
SYNC_CODES = (b"\xff\xf8", b"\xff\xf9")
# The longest header of a frame, with its checksum.
HEADER_BYTES = 16
# One of this many parts of a file is searched before where a frame is expected.
SEARCHED_SHARE = 16
# Samples of a frame by a code in its header; codes 6 and 7 say that they are written behind.
BLOCK_SAMPLES = {
    1: 192,
    **{code: 144 << code for code in range(2, 6)},
    **{code: 1 << code for code in range(8, 16)},
}


@dataclass(frozen=True)
class StreamInfo:
    """The samples of a FLAC file, by its header; `samples` per channel, 0 when not known."""

    sample_rate: int
    channels: int
    bits: int
    samples: int


@dataclass(frozen=True)
class Frame:
    """A frame: its number, or that of its first sample, and its samples per channel."""

    counts_frames: bool
    number: int
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

    A file whose header does not say it, since it was written to a pipe, is legal: its last frame
    does, if it is whole.
    """
    info = stream_info(recording.header)
    if info is None:
        return NOTHING_KNOWN
    if not info.sample_rate:
        raise UnusableAudioError("claims an impossible sample rate: 0 Hz")
    content = recording.content
    if holds_another_file(content):
        raise UnusableAudioError("holds several FLAC files set end to end: split them")
    frame = first_frame(content)
    size = block_size(recording)
    if frame and frame.counts_frames and info.samples > frame.samples != size:
        raise UnusableAudioError(
            f"has a header that contradicts itself: frames of {size} samples, the first has "
            f"{frame.samples}"
        )
    samples = info.samples or samples_by_last_frame(recording)
    if not samples or samples >> 36:
        raise UnusableAudioError("cut off: its last frame is not whole")
    return Contents(samples=samples)


def holds_another_file(content: bytes) -> bool:
    """Return whether a file begins inside; looking for its marker alone is three times as fast."""
    place = content.rfind(MARKER, len(MARKER))
    while place >= 0:
        if content.startswith(BEGINNINGS, place):
            return True
        place = content.rfind(MARKER, len(MARKER), place)
    return False


def block_size(recording: Recording) -> int:
    """Return the samples of a frame, where all but the last have the same number."""
    return int.from_bytes(recording.header[8:10], "big")


def first_frame(content: bytes) -> Frame | None:
    """Return the frame behind the blocks of metadata; None where there is none."""
    position, is_last = 4, False
    while not is_last and position + 4 <= len(content):
        is_last = content[position] >= 0x80
        position += 4 + int.from_bytes(content[position + 1 : position + 4], "big")
    return read_frame_header(content[position : position + HEADER_BYTES])


def samples_by_last_frame(recording: Recording) -> int | None:
    """Return the samples up to the end of the last frame; None unless it is whole.

    It is by its checksum, and if nothing but tags follows.
    """
    content = recording.content
    stop = len(content)
    while stop > 0:
        start = max(content.rfind(code, 0, stop) for code in SYNC_CODES)
        if start < 0:
            return None
        frame = read_frame_header(content[start : start + HEADER_BYTES])
        if frame is not None:
            values = enumerate(checksums(content[start:], 16, 0x8005), start + 1)
            whole = any(value == 0 and is_end(recording, place) for place, value in values)
            first = frame.number
            if frame.counts_frames:
                first *= block_size(recording)
            return first + frame.samples if whole else None
        stop = start + 1
    return None


def require_frames(recording: Recording, samples: range) -> None:
    """Raise `UnusableAudioError` when a frame that holds some of the samples is not there.

    libFLAC puts silence in its place. Streams whose frames differ in size, which hardly anything
    writes, are not looked at.
    """
    content, size = recording.content, block_size(recording)
    first, info = first_frame(content), stream_info(recording.header)
    if first is None or info is None or not first.counts_frames or not size:
        return
    total = info.samples or samples.stop
    numbers = range(samples.start // size, -(-samples.stop // size))
    # Frames take about equal bytes, so that the search begins a little before the share of them.
    position = max(0, len(content) * samples.start // total - len(content) // SEARCHED_SHARE)
    for number in numbers:
        found = find_frame(content, number, position)
        if found is None and number == numbers.start:
            found = find_frame(content, number, 0)
        if found is None:
            raise UnusableAudioError(
                f"cut off or damaged: it lacks frame {number} of FLAC, at sample {number * size}"
            )
        position = found + 1


def find_frame(content: bytes, number: int, position: int) -> int | None:
    """Return where the frame of this number begins, from a position on; None if it is not there."""
    while (position := content.find(SYNC_CODES[0], position)) >= 0:
        frame = read_frame_header(content[position : position + HEADER_BYTES])
        if frame is not None and frame.number == number:
            return position
        position += 1
    return None


def read_frame_header(header: bytes) -> Frame | None:
    """Read the header of a frame, with its checksum (section 9.1); None where there is none."""
    if len(header) < 6:
        return None
    block_code, rate_code = header[2] >> 4, header[2] & 0xF
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    number_bytes = max(1, ones)
    size = {6: 1, 7: 2}.get(block_code, 0)
    length = 4 + number_bytes + size + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if ones == 1 or block_code == 0 or len(header) <= length or crc_8(header[: length + 1]):
        return None
    # Written as UTF-8 writes a character: six bits a byte behind the first.
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 4 + number_bytes]:
        number = number << 6 | byte & 0x3F
    written = header[4 + number_bytes :][:size]
    samples = int.from_bytes(written, "big") + 1 if size else BLOCK_SAMPLES[block_code]
    return Frame(counts_frames=not header[1] & 1, number=number, samples=samples)


def crc_8(data: bytes) -> int:
    """Return the checksum of a frame's header; 0 where the checksum itself is at the end."""
    *_, last = checksums(data, 8, 0x07)
    return last


def checksums(data: bytes, bits: int, polynomial: int) -> Iterator[int]:
    """Yield a cyclic redundancy check, which begins with 0, after every byte."""
    table, mask = checksum_table(bits, polynomial), (1 << bits) - 1
    value = 0
    for byte in data:
        value = (value << 8 ^ table[value >> bits - 8 ^ byte]) & mask
        yield value


@cache
def checksum_table(bits: int, polynomial: int) -> tuple[int, ...]:
    """Return what every byte adds to a cyclic redundancy check."""
    mask, top = (1 << bits) - 1, 1 << bits - 1
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return tuple(table)
