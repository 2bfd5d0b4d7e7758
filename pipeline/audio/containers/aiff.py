"""AIFF and AIFC."""

import struct

from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    no_samples,
    require_announced,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

FORM = ChunkForm(big_endian=True)
AIFC_VERSION = bytes.fromhex("a2805140")
# Compressions of AIFC that leave every sample its own bytes; AIFF has none.
PLAIN = (b"NONE", b"twos", b"sowt", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64")
# Before the samples stand an offset and the size of blocks.
SOUND_HEADER_BYTES = 8


def examine_aiff(recording: Recording) -> Contents:
    """Read the number of samples; `UnusableAudioError` when it is cut off or has more behind."""
    layout, sound = None, None
    stop = 12
    for chunk in walk_chunks(recording, stop, FORM):
        require_whole(chunk, recording)
        stop = chunk.stop
        if chunk.name == b"FVER" and recording.read(chunk.start, 4) != AIFC_VERSION:
            raise UnusableAudioError("claims an unknown version of AIFC")
        if chunk.name == b"COMM":
            layout = recording.read(chunk.start, min(chunk.size, 22))
        if chunk.name == b"SSND":
            if sound is not None:
                raise UnusableAudioError("holds samples in several chunks: split them")
            sound = chunk
    if sound is None or layout is None:
        raise no_samples()
    require_no_audio_behind(recording, stop, FORM)
    require_announced(recording, int.from_bytes(recording.header[4:8], "big") + 8)
    return Contents(
        samples=count_samples(layout, sound, compressed=recording.header[8:12] == b"AIFC")
    )


def count_samples(layout: bytes, sound: Chunk, *, compressed: bool) -> int:
    """Return the samples per channel that `COMM` announces, which must be those in `SSND`."""
    channels, samples, bits = struct.unpack(">HIH", layout[:8])
    held = sound.size - SOUND_HEADER_BYTES
    expected = samples * channels * -(-bits // 8)
    # Some writers count a byte of padding.
    if (not compressed or layout[18:22] in PLAIN) and held not in (expected, expected + 1):
        raise UnusableAudioError(
            f"has a header that contradicts itself: {samples} samples, channels {channels}, of "
            f"{bits} bits in {held} bytes"
        )
    return int(samples)
