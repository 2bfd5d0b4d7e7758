"""Sun's and NeXT's AU, in either byte order."""

import struct

from aalbert.pipeline.audio.containers.chunks import (
    Chunk,
    ChunkForm,
    require_no_audio_behind,
    require_whole,
)
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

# Bits of a sample by encoding: mu-law, integers of 8 to 32 bits, floats of 32 and 64, G.721, G.723
# of 3 and 5 bits, A-law.
SAMPLE_BITS = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 23: 4, 25: 3, 26: 5, 27: 8}
UNKNOWN = 0xFFFFFFFF


def examine_au(recording: Recording) -> Contents:
    """Count the samples; `UnusableAudioError` when it is cut off or has more behind.

    So too when the size that it announces ends amid a sample.
    """
    order = ">" if recording.header[:4] == b".snd" else "<"
    start, size, encoding, _, channels = struct.unpack(f"{order}5I", recording.header[4:24])
    announced = size != UNKNOWN
    if not announced:
        size = recording.size - start
    data = Chunk(b"data", start, size)
    require_whole(data, recording)
    require_no_audio_behind(recording, data.stop, ChunkForm(alignment=1))
    if encoding not in SAMPLE_BITS or not channels:
        return NOTHING_KNOWN
    bits = SAMPLE_BITS[encoding]
    if announced and bits % 8 == 0 and size * 8 % (bits * channels):
        raise UnusableAudioError(
            f"has a header that contradicts itself: samples of {bits} bits, channels {channels}, "
            f"in {size} bytes"
        )
    return Contents(samples=size * 8 // (bits * channels))
