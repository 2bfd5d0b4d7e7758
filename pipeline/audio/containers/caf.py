"""Apple's Core Audio Format."""

import struct

from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording

FORM = ChunkForm(size_bytes=8, big_endian=True, alignment=1)
# The size of samples that go on to the end of the file, -1.
UNKNOWN = 2**64 - 1
# Before the samples stands the number of edits.
EDIT_COUNT_BYTES = 4


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
            if not packet_bytes:
                return NOTHING_KNOWN
            packets = (data.size - EDIT_COUNT_BYTES) // packet_bytes
            return Contents(samples=packets * packet_frames)
        require_whole(chunk, recording)
    return NOTHING_KNOWN
