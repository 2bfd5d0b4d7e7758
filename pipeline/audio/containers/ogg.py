"""Ogg (RFC 3533), around Vorbis, Opus, FLAC or Speex.

A page has a checksum and a number, and the last one of a stream is marked: what is cut or damaged
shows. Streams may follow one another in a file, a chain, which is legal.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from aalbert.pipeline.audio.containers.chunks import is_end
from aalbert.pipeline.audio.containers.contents import Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

HEADER_BYTES = 27
CONTINUED, FIRST, LAST = 1, 2, 4
# Bits of every byte in reverse order: Ogg's checksum is that of zlib with the bits reversed.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Page:
    """A page: its flags, its stream, its number in the stream, and its end in bytes."""

    flags: int
    serial: int
    number: int
    start: int
    stop: int


def examine_ogg(recording: Recording) -> Contents:
    """Check every page; `UnusableAudioError` for a file that is cut off or damaged."""
    content = recording.content
    starts: list[int] = []
    # The number of the next page of every stream that has not ended.
    expected: dict[int, int] = {}
    stop = 0
    for page in walk_pages(content):
        if page.flags & FIRST:
            if not expected:
                starts.append(page.start)
            expected[page.serial] = page.number
        if expected.get(page.serial) != page.number:
            raise UnusableAudioError(f"lacks pages of Ogg before byte {page.start}")
        expected[page.serial] += 1
        if page.flags & LAST:
            del expected[page.serial]
        stop = page.stop
    if not is_end(recording, stop):
        raise UnusableAudioError(
            f"cut off or damaged: byte {stop} of {recording.size} begins no page of Ogg"
        )
    if expected:
        raise UnusableAudioError("cut off: its last page of Ogg is missing")
    streams = tuple(zip(starts, [*starts[1:], stop], strict=True))
    return Contents(streams=streams if len(streams) > 1 else ())


def walk_pages(content: bytes) -> Iterator[Page]:
    """Yield the whole pages with a right checksum, up to the first that is none."""
    start = 0
    while start + HEADER_BYTES <= len(content) and content[start : start + 4] == b"OggS":
        flags, serial, number, crc, segments = struct.unpack_from("<xB8xIIIB", content, start + 4)
        sizes = content[start + HEADER_BYTES : start + HEADER_BYTES + segments]
        stop = start + HEADER_BYTES + segments + sum(sizes)
        page = content[start:stop]
        if stop > len(content) or checksum(page[:22] + bytes(4) + page[26:]) != crc:
            return
        yield Page(flags, serial, number, start, stop)
        start = stop


def checksum(page: bytes) -> int:
    """Return the checksum of a page whose own field is 0."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
