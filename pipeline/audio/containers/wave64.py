"""Sony Wave64: chunks whose names have 16 bytes and whose sizes have 64 bits."""

from aalbert.pipeline.audio.containers.chunks import (
    ChunkForm,
    no_samples,
    require_announced,
    require_no_audio_behind,
    require_whole,
    walk_chunks,
)
from aalbert.pipeline.audio.containers.contents import Contents
from aalbert.pipeline.audio.containers.riff import contents_of
from aalbert.pipeline.audio.recording import Recording

MAGIC = bytes.fromhex("726966662e91cf11a5d628db04c10000")
FORM = ChunkForm(name_bytes=16, size_bytes=8, counts_header=True, alignment=8)
FIRST_CHUNK = 40


def examine_wave64(recording: Recording) -> Contents:
    """Find the samples; `UnusableAudioError` when it is cut off or has more behind."""
    announced = int.from_bytes(recording.header[16:24], "little")
    layout = None
    for chunk in walk_chunks(recording, FIRST_CHUNK, FORM):
        if chunk.name[:4] == b"fmt ":
            layout = recording.read(chunk.start, min(chunk.size, 40))
        if chunk.name[:4] == b"data":
            require_whole(chunk, recording)
            require_no_audio_behind(recording, chunk.stop, FORM)
            require_announced(recording, announced, slack=FORM.alignment)
            # Where they are, libsndfile finds alone.
            return Contents(samples=contents_of(recording, layout, chunk, "<").samples)
        require_whole(chunk, recording)
    raise no_samples()
