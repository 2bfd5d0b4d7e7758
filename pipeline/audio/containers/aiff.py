"""AIFF and AIFC."""

from aalbert.pipeline.audio.containers.chunks import (
    ChunkForm,
    require_announced,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.recording import Recording

FORM = ChunkForm(big_endian=True)


def examine_aiff(recording: Recording) -> Contents:
    """Read the number of samples; `UnusableAudioError` when it is cut off or has more behind."""
    samples, sound = None, None
    stop = 12
    for chunk in walk_chunks(recording, stop, FORM):
        require_whole(chunk, recording)
        stop = chunk.stop
        if chunk.name == b"COMM":
            samples = int.from_bytes(recording.read(chunk.start + 2, 4), "big")
        if chunk.name == b"SSND":
            sound = chunk
    if sound is None:
        return NOTHING_KNOWN
    require_no_audio_behind(recording, stop, FORM)
    require_announced(recording, int.from_bytes(recording.header[4:8], "big") + 8)
    return Contents(samples=samples)
