"""Apple's Core Audio Format."""

import struct
from collections.abc import Iterator
from itertools import islice

from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    no_samples,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

FORM = ChunkForm(size_bytes=8, big_endian=True, alignment=1)
# The size of samples that go on to the end of the file, -1.
UNKNOWN = 2**64 - 1
# Before the samples stands the number of edits.
EDIT_COUNT_BYTES = 4
# The numbers of packets and of samples, those that fill the first and the last packet up.
PACKETS = struct.Struct(">qqii")


def examine_caf(recording: Recording) -> Contents:
    """Count the samples; `UnusableAudioError` when it is cut off or has more behind."""
    packet_bytes = packet_frames = 0
    for chunk in walk_chunks(recording, 8, FORM):
        if chunk.name == b"desc" and chunk.size >= 32:
            packet_bytes, packet_frames = struct.unpack(">II", recording.read(chunk.start + 16, 8))
        if chunk.name == b"data":
            size = recording.size - chunk.start if chunk.size == UNKNOWN else chunk.size
            data = Chunk(chunk.name, chunk.start, size)
            require_whole(data, recording)
            require_no_audio_behind(recording, data.stop, FORM)
            coded = data.size - EDIT_COUNT_BYTES
            samples = count_samples(recording, coded, packet_bytes, packet_frames)
            if packet_bytes and chunk.size != UNKNOWN and coded % packet_bytes:
                raise UnusableAudioError(
                    f"has a header that contradicts itself: packets of {packet_bytes} bytes in "
                    f"{coded} bytes"
                )
            return Contents(samples=samples)
        require_whole(chunk, recording)
    raise no_samples()


def count_samples(recording: Recording, coded: int, packet_bytes: int, packet_frames: int) -> int:
    """Return the samples in coded bytes; `UnusableAudioError` where a table does not fit them.

    Packets of different sizes (`packet_bytes` is 0) need one; that of others changes nothing.
    """
    for chunk in walk_chunks(recording, 8, FORM):
        if chunk.name == b"pakt" and chunk.size >= PACKETS.size:
            packets, samples, before, behind = PACKETS.unpack(
                recording.read(chunk.start, PACKETS.size)
            )
            sizes = numbers(recording.read(chunk.start, chunk.size)[PACKETS.size :])
            listed = packets * packet_bytes if packet_bytes else sum(islice(sizes, max(0, packets)))
            frames = packets * packet_frames
            if (listed, frames) != (coded, before + samples + behind):
                raise UnusableAudioError("damaged: the table of its packets does not fit them")
            return frames if packet_bytes else int(samples)
    if not packet_bytes:
        raise UnusableAudioError("lacks the table of its packets")
    return coded // packet_bytes * packet_frames


def numbers(content: bytes) -> Iterator[int]:
    """Yield numbers that are written with seven bits a byte, the last one without its highest."""
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            yield number
            number = 0
